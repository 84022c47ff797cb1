"""What the suites of several marts have in common."""

from __future__ import annotations

from expectations.checks import measured, same_total
from expectations.model import Check

MAX_DELAY_HOURS = 3
"""Marts are built at least hourly; two missed builds are an alarm."""

LATE_REFUSAL_SHARE = 0.02
"""A `sent` may be refused as malformed while the `delivered` of the same message lands."""

FUNNEL_COUNTS = {
    "targeted": "is_targeted",
    "sends": "is_sent",
    "deliveries": "is_delivered",
    "bounces": "is_bounced",
    "aborts": "is_aborted",
    "unique_opens": "is_opened",
    "unique_clicks": "is_clicked",
    "unsubscribes": "is_unsubscribed",
    "complaints": "is_complained",
    "conversions": "is_converted",
}
"""Count of the hourly marts -> the flag of fct_messages that it adds up."""


def adds_up_to_messages(counts: tuple[str, ...] = tuple(FUNNEL_COUNTS), where: str = "1") -> Check:
    """Totals of a mart equal the flags of marts.fct_messages.

    Args:
        counts: names of FUNNEL_COUNTS that the mart has.
        where: condition on fct_messages that says which messages the mart covers.
    """
    left = ", ".join(f"sum({name}) as {name}" for name in counts)
    right = ", ".join(f"countIf({FUNNEL_COUNTS[name]}) as {name}" for name in counts)
    return same_total(
        "adds_up_to_fct_messages",
        f"select {left} from {{batch}}",
        f"select {right} from marts.fct_messages where {where}",
        counts,
        "totals equal to those of marts.fct_messages",
    )


def keeps_up(column: str = "updated_at", table: str = "marts.fct_messages") -> Check:
    """The mart holds what landed up to a few hours ago: newest row against newest landing."""
    return measured(
        "keeps_up_with_landing",
        f"""
        select concat('built to ', toString(built), ' UTC, landed to ', toString(landed), ' UTC')
                   as observed,
               'at most {MAX_DELAY_HOURS} h behind' as expected,
               landed <= built + toIntervalHour({MAX_DELAY_HOURS}) as is_ok,
               '' as note
        from (
            select (select toDateTime64(max({column}), 3, 'UTC') from {table}) as built,
                   (select max(landed_at) from raw.events) as landed
        )
        """,
        f"at most {MAX_DELAY_HOURS} h behind the landing",
        column=column,
    )
