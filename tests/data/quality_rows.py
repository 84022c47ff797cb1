"""Hand-written rows for the quality gates: a warehouse where every check passes, and one where
every check fails.
"""

from __future__ import annotations

from clickhouse_connect.driver.client import Client

TOPIC = "notifications.events.v1"

_HOUR = "(toStartOfHour(now() - toIntervalMinute(5)) - toIntervalHour(2))"

# Four earlier weeks and this one, ten events each in the same hour of the week, ten just now.
_EVENTS = """
insert into raw.events (event_id, source, schema_version, tenant_id, event_type, channel, action,
    occurred_at, country, campaign_id, template_id, message_id, user_id, _topic, _partition,
    _offset, landed_at)
select generateUUIDv7(number), 'tests', '1.0', 'acme', 'push.sent', 'push', 'sent',
    if(number < 50, {hour} - toIntervalWeek(intDiv(number, 10)) + toIntervalMinute(number % 10),
       now() - toIntervalMinute(5)),
    'DE', 'c1', 't1', concat('m', toString(number)), 'u1', '{topic}', 0, number,
    now64(3) - toIntervalHour({landed_hours_ago})
from numbers(60)
"""


def clear_raw(client: Client) -> None:
    """Empty every table the raw suites read."""
    for table in ("raw.events", "raw.dead_letters", "raw.landed_ranges", "live.landing_progress"):
        client.command(f"truncate table {table}")
    for grain in ("second", "minute", "hour"):
        client.command(f"truncate table live.events_{grain}")
    for table in ("campaigns", "templates", "journeys", "users"):
        client.command(f"truncate table raw.{table}")


def fill_raw(client: Client, *, landed_hours_ago: int = 0) -> None:
    """60 events and one dead letter in two ranges, as the landing job leaves them."""
    clear_raw(client)
    client.command(_EVENTS.format(hour=_HOUR, topic=TOPIC, landed_hours_ago=landed_hours_ago))
    client.command(
        "insert into raw.campaigns (tenant_id, campaign_id, name, _topic, _offset, updated_at,"
        " landed_at) values ('acme', 'c1', 'Spring', 'notifications.campaigns.v1', 4, now(), now())"
    )
    client.command(
        "insert into raw.templates (tenant_id, template_id, name, _topic, _offset, updated_at,"
        " landed_at) values ('acme', 't1', 'Spring', 'notifications.templates.v1', 7, now(), now())"
    )
    client.command(
        "insert into raw.dead_letters (topic, partition, offset, value, error_class, error_message,"
        f" contract_version, landed_at) values ('{TOPIC}', 0, 60, '{{', 'malformed_json',"
        " 'value: not JSON', '1.0', now64(3))"
    )
    client.command(
        "insert into raw.landed_ranges (topic, partition, first_offset, last_offset, rows_stored,"
        " rows_dead_lettered, landed_at) values"
        f" ('{TOPIC}', 0, 0, 29, 30, 0, now64(3)), ('{TOPIC}', 0, 30, 60, 30, 1, now64(3)),"
        # compacted topics have holes: offsets 0-3 and 0-6 were superseded
        " ('notifications.campaigns.v1', 0, 0, 4, 1, 0, now64(3)),"
        " ('notifications.templates.v1', 0, 0, 7, 1, 0, now64(3))"
    )
    client.command(
        "insert into live.landing_progress (observed_at, topic, partition, next_offset, end_offset)"
        f" values (now64(3), '{TOPIC}', 0, 61, 61)"
    )


BREAK_RAW = (
    # events: everything wrong in one row, then an abort without a known reason, a second copy
    "insert into raw.events (event_id, tenant_id, event_type, channel, action, occurred_at,"
    " country, cost, _topic, _offset, landed_at) values"
    " ('00000000-0000-0000-0000-000000000000', '', 'fax.sent', 'fax', 'teleported',"
    " now() + toIntervalDay(2), 'de', -1, '', 1, now64(3) - toIntervalHour(3))",
    "insert into raw.events (event_id, tenant_id, event_type, channel, action, failure_reason,"
    " occurred_at, _topic, _offset, landed_at) values (generateUUIDv7(), 'acme', 'push.aborted',"
    f" 'push', 'aborted', 'bored', now(), '{TOPIC}', 59, now64(3) - toIntervalHour(3))",
    # a hundred times the usual hour
    "insert into raw.events (event_id, tenant_id, event_type, channel, action, occurred_at,"
    " _topic, _partition, _offset, landed_at) select generateUUIDv7(number), 'acme', 'push.sent',"
    " 'push', 'sent', toStartOfHour(now()) - toIntervalHour(2),"
    f" '{TOPIC}', 1, number, now64(3) - toIntervalHour(3) from numbers(1000)",
    "alter table raw.events add column surprise String",
    # the rollup counted three that were never stored
    "insert into live.events_hour (bucket_at, tenant_id, events, last_landed_at) values"
    " (toStartOfHour(now()), 'acme', 3, now64(3) - toIntervalHour(3))",
    # ledger: an overlap, a hole, rows that are nowhere, a backlog
    "insert into raw.landed_ranges (topic, partition, first_offset, last_offset, rows_stored,"
    f" rows_dead_lettered, landed_at) values ('{TOPIC}', 0, 50, 70, 1, 2, now64(3)),"
    f" ('{TOPIC}', 0, 100, 1199, 500, 600, now64(3))",
    "insert into live.landing_progress (observed_at, topic, partition, next_offset, end_offset)"
    f" values (now64(3) + toIntervalSecond(1), '{TOPIC}', 0, 1300, 9000000)",
    # dead letters
    "insert into raw.dead_letters (topic, offset, error_class, error_message, contract_version,"
    " landed_at) values ('', 60, 'tired', '', '', now64(3)), ('', 60, 'tired', '', '', now64(3))",
)

MEND_RAW = ("alter table raw.events drop column surprise",)

_KEY = "tenant_id String, campaign_id String, variant_id String, channel String"
_ENGAGEMENT = (
    "targeted UInt64, sends UInt64, deliveries UInt64, bounces UInt64, aborts UInt64,"
    " opens UInt64, human_opens UInt64, unique_opens UInt64, unique_human_opens UInt64,"
    " clicks UInt64, human_clicks UInt64, unique_clicks UInt64, unsubscribes UInt64,"
    " complaints UInt64, conversions UInt64"
)
_HOURLY = (
    f"({_KEY}, country String, platform String, device_class String,"
    f" hour_at Nullable(DateTime('UTC')), {_ENGAGEMENT}) engine = MergeTree order by tuple()"
)
_DIMENSION = (
    "(tenant_id String, {key} String, valid_from Nullable(DateTime64(3, 'UTC')),"
    " valid_to Nullable(DateTime64(3, 'UTC')), is_current Bool) engine = MergeTree order by tuple()"
)
DIMENSIONS = {
    "dim_campaigns": "campaign_id",
    "dim_templates": "template_id",
    "dim_users": "user_id",
}

BUILD_STAGING = (
    "create database if not exists staging",
    "drop table if exists staging.stg_raw__events",
    "create table staging.stg_raw__events (event_id UUID, tenant_id String, event_type String,"
    " channel String, action String, message_id String, campaign_id String, template_id String,"
    " is_suspected_bot Bool, bot_reasons Array(String),"
    " occurred_at Nullable(DateTime64(3, 'UTC')), landed_at DateTime64(3, 'UTC'))"
    " engine = MergeTree order by tuple()",
    "insert into staging.stg_raw__events select event_id, tenant_id, event_type, channel, action,"
    " message_id, campaign_id, template_id, false, [], occurred_at, landed_at from raw.events",
)

BREAK_STAGING = (
    # one event lost, one doubled, one of nowhere
    "alter table staging.stg_raw__events delete where message_id = 'm7' settings mutations_sync=2",
    "insert into staging.stg_raw__events select * from staging.stg_raw__events"
    " where message_id = 'm8'",
    "insert into staging.stg_raw__events values (generateUUIDv7(), '', '', 'fax', 'teleported',"
    " 'm99', 'c-unknown', 't-unknown', true, [], null, now64(3) + toIntervalSecond(1))",
)

BUILD_MARTS = (
    "create database if not exists marts",
    *(
        f"drop table if exists marts.{table}"
        for table in (
            "fct_messages",
            "fct_engagement_hourly",
            "fct_activity_hourly",
            "fct_campaign_performance",
            "fct_deliverability_daily",
            "fct_abort_funnel",
            *DIMENSIONS,
        )
    ),
    "create table marts.fct_messages (tenant_id String, message_id String, channel String,"
    " anchor_at Nullable(DateTime64(3, 'UTC')), sent_at Nullable(DateTime64(3)),"
    " delivered_at Nullable(DateTime64(3)), aborted_at Nullable(DateTime64(3)),"
    " is_holdout Bool, is_targeted Bool, is_sent Bool, is_delivered Bool, is_bounced Bool,"
    " is_aborted Bool, is_opened Bool, is_clicked Bool, is_unsubscribed Bool, is_complained Bool,"
    " is_converted Bool, opens UInt64, human_opens UInt64, machine_opens UInt64, clicks UInt64,"
    " human_clicks UInt64, machine_clicks UInt64, updated_at DateTime64(3, 'UTC'))"
    " engine = MergeTree order by tuple()",
    "insert into marts.fct_messages (tenant_id, message_id, channel, anchor_at, sent_at,"
    " is_targeted, is_sent, updated_at) select tenant_id, message_id, channel, occurred_at,"
    " occurred_at, true, true, landed_at from raw.events",
    *(
        statement
        for table in ("fct_engagement_hourly", "fct_activity_hourly")
        for statement in (
            f"create table marts.{table} {_HOURLY}",
            f"insert into marts.{table} (tenant_id, campaign_id, variant_id, channel, hour_at,"
            " targeted, sends) select tenant_id, campaign_id, variant_id, channel,"
            " toStartOfHour(occurred_at) as hour_at, count(), count() from raw.events"
            " group by all",
        )
    ),
    f"create table marts.fct_campaign_performance ({_KEY}, sent_date Nullable(Date),"
    f" {_ENGAGEMENT}, bounce_rate Nullable(Float64), spam_rate Nullable(Float64),"
    " abort_rate Nullable(Float64), unsubscribe_rate Nullable(Float64))"
    " engine = MergeTree order by tuple()",
    "insert into marts.fct_campaign_performance (tenant_id, campaign_id, channel, sent_date,"
    " sends, bounce_rate) select tenant_id, campaign_id, channel, toDate(occurred_at) as"
    " sent_date, count(), 0 from raw.events group by all",
    "create table marts.fct_deliverability_daily (tenant_id String, sent_date Nullable(Date),"
    " channel String, provider String, mailbox_provider String, ip_pool String, sends UInt64,"
    " bounce_rate Nullable(Float64), spam_rate Nullable(Float64))"
    " engine = MergeTree order by tuple()",
    "insert into marts.fct_deliverability_daily (tenant_id, sent_date, channel, sends)"
    " select tenant_id, toDate(occurred_at) as sent_date, channel, count() from raw.events"
    " group by all",
    f"create table marts.fct_abort_funnel ({_KEY}, anchor_date Date, stage String,"
    " stage_order UInt8, abort_reason String, messages UInt64)"
    " engine = MergeTree order by tuple()",
    "insert into marts.fct_abort_funnel (tenant_id, campaign_id, channel, anchor_date, stage,"
    " stage_order, messages) select 'acme', 'c1', 'push', today(), s.1, s.2, 60 from"
    " (select arrayJoin([('targeted', 1), ('eligible', 2), ('attempted', 3), ('sent', 4),"
    " ('delivered', 5)]) as s)",
    *(
        statement
        for table, key in DIMENSIONS.items()
        for statement in (
            f"create table marts.{table} {_DIMENSION.format(key=key)}",
            f"insert into marts.{table} values ('acme', 'x1', now() - 60, now() - 30, false),"
            " ('acme', 'x1', now() - 30, null, true)",
        )
    ),
)

_BROKEN_HOUR = (
    "('', 'c1', 'v1', '', '', '', '', null, 9, 9, 99, 9, 9, 1, 7, 7, 9, 1, 7, 7, 9, 9, 9)"
)

BREAK_MARTS = (
    # one message lost, one doubled with flags and counts that contradict each other
    "alter table marts.fct_messages delete where message_id < 'm4' settings mutations_sync=2",
    "alter table marts.fct_messages update updated_at = now() - toIntervalDay(2) where 1"
    " settings mutations_sync=2",
    *(
        "insert into marts.fct_messages (tenant_id, message_id, channel, is_holdout, is_sent,"
        " is_delivered, is_aborted, opens, clicks, updated_at) values"
        " ('', '', 'fax', true, true, true, true, 3, 3, now() - toIntervalDay(2))"
        for _ in range(2)
    ),
    *(
        f"insert into marts.{table} values {_BROKEN_HOUR}, {_BROKEN_HOUR}"
        for table in ("fct_engagement_hourly", "fct_activity_hourly")
    ),
    *(
        "insert into marts.fct_campaign_performance (tenant_id, channel, sends, bounce_rate,"
        " spam_rate, abort_rate, unsubscribe_rate) values ('', '', 5, 2, 2, 2, -1)"
        for _ in range(2)
    ),
    *(
        "insert into marts.fct_deliverability_daily (tenant_id, sends, bounce_rate, spam_rate)"
        " values ('acme', 5, 2, 2)"
        for _ in range(2)
    ),
    *(
        "insert into marts.fct_abort_funnel (tenant_id, channel, stage, stage_order, messages)"
        " values ('acme', 'push', 'abducted', 5, 1000)"
        for _ in range(2)
    ),
    *(
        f"insert into marts.{table} values ('', '', null, now() - 90, true),"
        " ('acme', 'x1', now() - 45, now() - 60, true)"
        for table in DIMENSIONS
    ),
)
