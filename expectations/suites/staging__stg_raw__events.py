"""staging.stg_raw__events: one row an event, whatever was redelivered, and known references."""

from __future__ import annotations

from expectations.checks import has_rows, in_set, measured, not_empty, not_null, rows
from expectations.model import Check, Suite
from herald.contract.vocabulary import Action, Channel
from herald.settings import Settings

WINDOW_HOURS = 26


def _known(column: str, table: str) -> Check:
    """Share of the distinct ids that the reference topic has published.

    A warning: a message is a fact even if its campaign's record is late.
    """
    return measured(
        f"{column}_is_known",
        f"""
        select concat(toString(unknown), ' of ', toString(ids), ' ids unknown') as observed,
               'every id published on its reference topic' as expected,
               unknown = 0 as is_ok,
               if(unknown = 0, '', concat('for example ', example)) as note
        from (
            select count() as ids, countIf(id not in (select {column} from raw.{table})) as unknown,
                   anyIf(id, id not in (select {column} from raw.{table})) as example
            from (select distinct {column} as id from {{batch}} where {column} != '')
        )
        """,
        f"an id of raw.{table}",
        column=column,
        severity="warning",
    )


def suite(settings: Settings) -> Suite:
    """Checks of staging.stg_raw__events."""
    return Suite(
        table="staging.stg_raw__events",
        layer="staging",
        purpose="One row for each event_id, with bot and machine verdicts, referring to what the"
        " services around the platform have published.",
        where=f"landed_at >= now64(3) - toIntervalHour({WINDOW_HOURS})",
        checks=(
            has_rows(severity="warning"),
            rows(
                "event_id_is_unique",
                "select event_id, count() as copies from {batch}"
                " group by event_id having copies > 1",
                "one row for each event_id",
                column="event_id",
            ),
            rows(
                "no_event_is_lost",
                "select r.event_id from"
                f" (select distinct event_id from raw.events where landed_at >= now64(3) -"
                f" toIntervalHour({WINDOW_HOURS}) and landed_at <"
                " (select max(landed_at) from {batch})) as r"
                " where r.event_id not in (select event_id from {batch})",
                "every event_id of raw.events",
                column="event_id",
            ),
            *not_null("occurred_at"),
            *not_empty("tenant_id", "event_type"),
            in_set("channel", Channel),
            in_set("action", Action),
            rows(
                "verdict_has_a_reason",
                "select event_id from {batch} where is_suspected_bot and empty(bot_reasons)",
                "a suspected bot names at least one reason",
                column="bot_reasons",
            ),
            _known("campaign_id", "campaigns"),
            _known("template_id", "templates"),
        ),
    )
