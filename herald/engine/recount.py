"""A metric counted again from raw.events, by other means than the marts.

The marts build messages in steps, incrementally, with arrays of engagements. Here one statement
joins every event to the send of its message and counts. Only two things are shared: the registry's
formulas, applied to messages on both sides, and the lists of known robots. A difference between
the two numbers is a bug in one of them.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from typing import Any

from clickhouse_connect.driver.client import Client

from herald.metrics.registry import DIMENSIONS, Exposed
from herald.settings import ROOT

SIGNATURES = ROOT / "dbt_project" / "seeds" / "bot_signatures.csv"
ENGAGEMENT_HOURS = 168
DEFAULT_CONVERSION_HOURS = 168
TOO_FAST_MS = 2000
EVERY_LINK_MINIMUM = 3
INFLUENCE_MS = 30 * 60 * 1000

LABELS = (
    *("user_id", "campaign_id", "campaign_name", "variant_id"),
    *("category", "platform", "device_class", "country"),
)
FIRSTS = {
    "is_targeted": "targeted",
    "is_eligible": "eligible",
    "is_attempted": "attempted",
    "is_sent": "sent",
    "is_delivered": "delivered",
    "is_bounced": "bounced",
    "is_soft_bounced": "soft_bounced",
    "is_failed": "failed",
    "is_aborted": "aborted",
    "is_impressed": "impressed",
    "is_unsubscribed": "unsubscribed",
    "is_complained": "marked_as_spam",
    "is_dismissed": "dismissed",
    "is_read": "read",
    "is_replied": "replied",
}

# the first landed copy of each event
_EVENTS = """
    select * from raw.events where tenant_id = {tenant:String}
    order by landed_at, _topic, _partition, _offset
    limit 1 by event_id"""

_MESSAGES = """
    select
        message_id,
        {labels},
        argMinIf(channel, rank, channel != 'app') as message_channel,
        coalesce(
            minOrNullIf(occurred_at, action = 'sent'),
            minOrNullIf(occurred_at, action = 'attempted'),
            minOrNullIf(occurred_at, action = 'targeted'), min(occurred_at)
        ) as anchored_at,
        minOrNullIf(occurred_at, action = 'sent') as message_sent_at,
        coalesce(minOrNullIf(occurred_at, action = 'delivered'), message_sent_at) as pushed_at,
        maxIf(JSONExtractUInt(properties, 'link_count'), action in ('sent', 'opened', 'clicked'))
            as links,
        uniqExactIf(link_id, action = 'clicked' and link_id != '') as clicked_links,
        minOrNullIf(occurred_at, action in ('opened', 'clicked')) as tapped_at,
        minOrNullIf(occurred_at, action = 'influenced_opened') as told_at
    from (
        select *, (occurred_at, bitAnd(cityHash64(event_id), 1048575)) as rank from events
        where message_id != ''
    )
    group by message_id
    having message_channel != ''"""

_JUDGED = """
    select
        e.message_id as message_id, e.action as action, e.occurred_at as occurred_at,
        e.conversion_name as conversion_name, ifNull(e.revenue, 0) as revenue,
        ifNull(e.cost, 0) as cost, m.anchored_at as anchored_at,
        e.action in ('opened', 'clicked') and e.occurred_at <= m.anchored_at + interval {hours} hour
            as is_timely,
        multiSearchAnyCaseInsensitive(e.user_agent, {{bots:Array(String)}}) as by_agent,
        arrayExists(
            network -> isIPAddressInRange(if(isIPv4String(ip) or isIPv6String(ip), ip, '0.0.0.0'),
            network), {{networks:Array(String)}}
        ) and (isIPv4String(ip) or isIPv6String(ip)) as by_address,
        JSONExtractString(e.properties, 'ip') as ip,
        upper(JSONExtractString(e.properties, 'http_method')) = 'HEAD' as by_head,
        m.message_sent_at is not null and dateDiff('millisecond', m.message_sent_at, e.occurred_at)
            between 0 and {fast} as by_speed,
        e.action = 'clicked' and m.links >= {every} and m.clicked_links >= m.links as by_links,
        e.action = 'clicked' and (
            has({{honeypots:Array(String)}}, e.link_id)
            or JSONExtractBool(e.properties, 'is_honeypot')
        ) as by_honeypot,
        length(arrayDistinct(arrayConcat(
            e.suspected_bot_reasons, if(by_agent, ['user_agent'], []),
            if(by_address, ['address_range'], []), if(by_head, ['head_request'], []),
            if(by_speed, ['too_fast'], []), if(by_links, ['every_link'], []),
            if(by_honeypot, ['honeypot'], [])
        ))) as reasons,
        e.is_suspected_bot or by_agent or by_honeypot or reasons >= 2
            or hasAny(e.suspected_bot_reasons, ['honeypot', 'user_agent'])
            or e.action = 'opened' and (
                e.machine_open
                or multiSearchAnyCaseInsensitive(e.user_agent, {{proxies:Array(String)}})
            ) as by_machine
    from events as e inner join messages as m on e.message_id = m.message_id"""

_COUNTED = """
    select
        j.message_id as message_id,
        {flags},
        countIf(j.action = 'opened' and j.is_timely) as opens,
        countIf(j.action = 'opened' and j.is_timely and not j.by_machine) as human_opens,
        opens - human_opens as machine_opens,
        countIf(j.action = 'clicked' and j.is_timely) as clicks,
        countIf(j.action = 'clicked' and j.is_timely and not j.by_machine) as human_clicks,
        clicks - human_clicks as machine_clicks,
        countIf(j.action = 'converted') as conversions,
        sumIf(j.revenue, j.action = 'converted') as revenue,
        sum(j.cost) as cost,
        countIf(
            j.action = 'converted' and (p.goal = '' or p.goal = j.conversion_name)
            and j.occurred_at >= j.anchored_at
            and j.occurred_at <= j.anchored_at + toIntervalHour(p.hours)
        ) > 0 as is_converted
    from judged as j
    inner join goals as p on j.message_id = p.message_id
    group by j.message_id"""

_GOALS = """
    select
        m.message_id as message_id, c.primary_conversion as goal,
        if(c.campaign_id = '', {default_hours}, toUInt32(c.conversion_window_hours)) as hours
    from messages as m
    left join (
        select campaign_id, primary_conversion, conversion_window_hours from raw.campaigns
        where tenant_id = {{tenant:String}} order by updated_at desc limit 1 by campaign_id
    ) as c on m.campaign_id = c.campaign_id"""

_INFLUENCED = """
    select
        p.message_id as message_id,
        minIf(s.at, s.at > p.pushed_at) as opened_at,
        countIf(s.at <= p.pushed_at) as before,
        dateDiff('millisecond', minIf(s.at, s.at <= p.pushed_at), maxIf(s.at, s.at <= p.pushed_at))
            / (before - 1) as gap,
        dateDiff('millisecond', any(p.pushed_at), opened_at) as waited,
        countIf(s.at > p.pushed_at) > 0
        and (waited <= {influence} or (before >= 2 and waited < gap / 2))
        and not (any(p.tapped_at) is not null and any(p.tapped_at) <= opened_at + interval 1 minute)
            as is_seen
    from (
        select message_id, user_id, assumeNotNull(pushed_at) as pushed_at, tapped_at from messages
        where message_channel in ('push', 'web_push') and messages.pushed_at is not null
    ) as p
    inner join (
        select distinct user_id, occurred_at as at from events
        where action = 'session_started' and user_id != ''
    ) as s on p.user_id = s.user_id
    group by p.message_id, p.pushed_at"""


def recount(
    client: Client, tenant: str, asked: Sequence[tuple[Exposed, Mapping[str, Sequence[str]]]]
) -> list[float | int | None]:
    """Count metrics over all messages of a tenant, from raw.events, in one pass.

    Args:
        client: a writer's; the reader may not see raw.events.
        tenant: whose events.
        asked: metrics with their audience, each with columns of a mart and accepted values.

    Returns:
        One value for each metric asked, in order.

    Raises:
        ValueError: a column that is no dimension.
    """
    columns = {d.column for d in DIMENSIONS.values()}
    parameters: dict[str, Any] = {"tenant": tenant, **_signatures()}
    conditions = []
    for number, (_, filters) in enumerate(asked):
        if set(filters) - columns:
            raise ValueError(f"filters {dict(filters)}: columns are {sorted(columns)}")
        parts = ["1"]
        for column, values in filters.items():
            name = f"f{number}_{column}"
            parameters[name] = list(values)
            parts.append(f"has({{{name}:Array(String)}}, {column})")
        conditions.append(" and ".join(parts))
    found = client.query(_sql([metric for metric, _ in asked], conditions), parameters)
    rows = {row[0]: row[1:] for row in found.result_rows}
    nothing = [None if metric.metric.denominator else 0 for metric, _ in asked]
    return [rows[n][n] if n in rows else nothing[n] for n in range(len(asked))]


def _sql(metrics: Sequence[Exposed], conditions: Sequence[str]) -> str:
    labels = ",\n        ".join(f"argMinIf({x}, rank, {x} != '') as {x}" for x in LABELS)
    # an alias equal to the column it reads would be taken for the column inside the aggregate
    labels = labels.replace("argMinIf(", "argMinIf(source.").replace(", rank, ", ", rank, source.")
    flags = ",\n        ".join(f"countIf(j.action = '{a}') > 0 as {n}" for n, a in FIRSTS.items())
    values = ", ".join(f"{metric.sql('message')} as m{n}" for n, metric in enumerate(metrics))
    # a message takes part in every question whose filters it passes
    parts = ", ".join(f"if({condition}, {n}, -1)" for n, condition in enumerate(conditions))
    messages = _MESSAGES.replace("{labels}", labels).replace("\n    )\n", "\n    ) as source\n")
    return f"""
with
events as ({_EVENTS}
),
messages as ({messages}
),
judged as ({_JUDGED.format(hours=ENGAGEMENT_HOURS, fast=TOO_FAST_MS - 1, every=EVERY_LINK_MINIMUM)}
),
goals as ({_GOALS.format(default_hours=DEFAULT_CONVERSION_HOURS)}
),
counted as ({_COUNTED.replace("{flags}", flags)}
),
influenced as ({_INFLUENCED.replace("{influence}", str(INFLUENCE_MS))}
)
select question, {values}
from (
    select
        m.message_channel as channel, {", ".join(f"m.{label} as {label}" for label in LABELS)},
        c.* except (message_id),
        c.opens > 0 as is_opened, c.human_opens > 0 as is_human_opened,
        c.opens > 0 and c.human_opens = 0 as is_machine_opened,
        c.clicks > 0 as is_clicked, c.human_clicks > 0 as is_human_clicked,
        c.clicks > 0 and c.human_clicks = 0 as is_machine_clicked,
        ifNull(i.is_seen, 0) or (
            m.message_channel in ('push', 'web_push') and m.pushed_at is not null
            and m.told_at is not null
        ) as is_influenced_opened
    from messages as m
    inner join counted as c on m.message_id = c.message_id
    left join influenced as i on m.message_id = i.message_id
)
array join arrayFilter(n -> n >= 0, [{parts}]) as question
group by question"""


def _signatures() -> dict[str, list[str]]:
    names = {
        "user_agent": "bots",
        "image_proxy": "proxies",
        "address_range": "networks",
        "honeypot_link": "honeypots",
    }
    found: dict[str, list[str]] = {name: [] for name in names.values()}
    with SIGNATURES.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found[names[row["kind"]]].append(row["pattern"])
    return found
