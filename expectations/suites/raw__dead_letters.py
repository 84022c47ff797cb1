"""raw.dead_letters: what was refused, why, and that it is a small share."""

from __future__ import annotations

from expectations.checks import in_set, measured, not_empty, rows
from expectations.model import Check, Severity, Suite
from herald.contract.errors import ErrorClass
from herald.settings import Settings

WINDOW_HOURS = 26
WARN_SHARE = 0.02
STOP_SHARE = 0.25
MIN_EVENTS = 1_000
"""Under so many events a share says little: ten broken test messages would stop the platform."""


def _share(name: str, limit: float, severity: Severity, topic: str) -> Check:
    return measured(
        name,
        f"""
        select concat(toString(round(100 * refused / greatest(refused + stored, 1), 3)), ' pct (',
                      toString(refused), ' of ', toString(refused + stored), ')') as observed,
               'at most {100 * limit:g} pct' as expected,
               refused + stored < {MIN_EVENTS} or refused <= {limit} * (refused + stored) as is_ok,
               if(refused + stored < {MIN_EVENTS},
                  'not estimable: fewer than {MIN_EVENTS} events', '') as note
        from (
            select sum(rows_dead_lettered) as refused, sum(rows_stored) as stored
            from raw.landed_ranges
            where topic = '{topic}' and landed_at >= now64(3) - toIntervalHour({WINDOW_HOURS})
        )
        """,
        f"at most {100 * limit:g} of 100 events refused",
        column="error_class",
        severity=severity,
    )


def suite(settings: Settings) -> Suite:
    """Checks of raw.dead_letters."""
    topic = settings.kafka.topics.events
    return Suite(
        table="raw.dead_letters",
        layer="raw",
        purpose="Refused messages keep their bytes and the reason, and stay the exception.",
        where=f"landed_at >= now64(3) - toIntervalHour({WINDOW_HOURS})",
        checks=(
            in_set("error_class", ErrorClass),
            *not_empty("topic", "error_message", "contract_version"),
            rows(
                "offset_is_unique",
                "select topic, partition, offset, count() as copies from {batch}"
                " group by topic, partition, offset having copies > 1",
                "one dead letter for each topic, partition, offset",
                column="topic, partition, offset",
            ),
            _share("share_is_usual", WARN_SHARE, "warning", topic),
            _share("share_is_bearable", STOP_SHARE, "error", topic),
        ),
    )
