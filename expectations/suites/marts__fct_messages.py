"""marts.fct_messages: one row a message, its life cycle in order."""

from __future__ import annotations

from expectations.checks import (
    fresh,
    grain_is_unique,
    has_rows,
    in_set,
    not_empty,
    not_null,
    rows,
)
from expectations.marts import keeps_up
from expectations.model import Check, Suite
from herald.contract.vocabulary import Channel
from herald.settings import Settings


def _flag_follows_time(flag: str, time: str) -> Check:
    return rows(
        f"{flag}_has_its_time",
        f"select tenant_id, message_id from {{batch}} where {flag} != isNotNull({time})",
        f"{flag} exactly where {time} is known",
        column=flag,
    )


def suite(settings: Settings) -> Suite:
    """Checks of marts.fct_messages."""
    return Suite(
        table="marts.fct_messages",
        layer="marts",
        purpose="Every message that staging knows, once, with flags that agree with its times.",
        checks=(
            has_rows(),
            grain_is_unique("tenant_id", "message_id"),
            *not_empty("tenant_id", "message_id"),
            *not_null("anchor_at"),
            in_set("channel", Channel),
            _flag_follows_time("is_sent", "sent_at"),
            _flag_follows_time("is_delivered", "delivered_at"),
            _flag_follows_time("is_aborted", "aborted_at"),
            rows(
                "opens_are_of_humans_or_machines",
                "select tenant_id, message_id, opens, human_opens, machine_opens from {batch}"
                " where opens != human_opens + machine_opens",
                "opens = human opens + machine opens",
                column="opens",
            ),
            rows(
                "clicks_are_of_humans_or_machines",
                "select tenant_id, message_id, clicks, human_clicks, machine_clicks from {batch}"
                " where clicks != human_clicks + machine_clicks",
                "clicks = human clicks + machine clicks",
                column="clicks",
            ),
            rows(
                "every_message_is_there",
                "select s.messages as in_staging, m.messages as in_mart from"
                " (select uniqExact(tenant_id, message_id) as messages from"
                " staging.stg_raw__events where message_id != '' and landed_at <="
                " (select max(landed_at) from raw.events) - toIntervalHour(3)) as s cross join"
                " (select count() as messages from {batch}) as m where s.messages > m.messages",
                "at least the messages of staging that landed three hours ago",
                column="message_id",
            ),
            rows(
                "holdout_is_not_sent",
                "select tenant_id, message_id from {batch} where is_holdout and is_sent",
                "a held-out user is sent nothing",
                column="is_holdout",
            ),
            keeps_up(),
            fresh("updated_at", 26, severity="warning"),
        ),
    )
