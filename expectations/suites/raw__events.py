"""raw.events: the contract as stored, exactly once, with the volume one would expect."""

from __future__ import annotations

from expectations.checks import fresh, has_rows, in_set, measured, native, not_empty, rows
from expectations.model import Suite
from herald.contract.schemas import clickhouse_columns, event_fields
from herald.contract.vocabulary import EVENT_TYPES, AbortReason, Action, Channel
from herald.settings import Settings

WINDOW_HOURS = 26
"""Rows landed in these hours are looked at: the hourly gate saw the older ones many times."""

BASELINE_WEEKS = 8
MIN_BASELINE_WEEKS = 3

_CONTRACT = """
select coalesce(nullIf(want.name, ''), have.name) as column_name,
       want.type as contract_type, have.type as stored_type
from (
    select arrayJoin({pairs}) as pair, pair.1 as name, pair.2 as type
) as want
full outer join (
    select name, type from system.columns where database = 'raw' and table = 'events'
) as have on want.name = have.name
where want.type != have.type
"""

# A replay lands old offsets under a new time, so each partition is read from the lowest offset
# that landed lately, not from the start.
_DUPLICATES = """
select e._topic, e._partition, e._offset, count() as copies
from raw.events as e
inner join (
    select _topic, _partition, min(_offset) as lowest from {batch} group by _topic, _partition
) as w on e._topic = w._topic and e._partition = w._partition
where e._offset >= w.lowest
group by e._topic, e._partition, e._offset
having copies > 1
"""

# The hour before the last complete one, so that ordinary lateness is not taken for a drop. The
# band is wide on purpose: campaigns are launched in bursts.
# hours that got something in the last minute are left out: the rollup is written just after
_ROLLUP = """
select tenant_id, hour_at, sumIf(n, side = 'raw') as stored, sumIf(n, side = 'live') as counted
from (
    select tenant_id, toStartOfHour(occurred_at) as hour_at, 'raw' as side, count() as n,
           max(landed_at) as landed
    from raw.events where occurred_at >= toStartOfHour(now()) - toIntervalHour(6)
    group by tenant_id, hour_at
    union all
    select tenant_id, bucket_at as hour_at, 'live' as side, sum(events) as n,
           max(last_landed_at) as landed
    from live.events_hour where bucket_at >= toStartOfHour(now()) - toIntervalHour(6)
    group by tenant_id, hour_at
)
group by tenant_id, hour_at
having stored != counted and max(landed) < now64(3) - toIntervalMinute(1)
"""

_VOLUME = f"""
with
    (select toStartOfHour(least(max(occurred_at), now64(3))) - toIntervalHour(2) from raw.events)
        as this_hour,
    (select toStartOfHour(min(occurred_at)) from raw.events) as first_hour
select
    concat(toString(any(seen)), ' events at ', toString(this_hour), ' UTC') as observed,
    if(weeks < {MIN_BASELINE_WEEKS}, 'not estimable',
       concat(toString(round(low)), ' to ', toString(round(high)))) as expected,
    weeks < {MIN_BASELINE_WEEKS} or (any(seen) >= low and any(seen) <= high) as is_ok,
    if(weeks < {MIN_BASELINE_WEEKS},
       concat('not estimable: ', toString(weeks), ' of {MIN_BASELINE_WEEKS} weeks of history'),
       concat('same hour of ', toString(weeks), ' weeks')) as note,
    countIf(hour_at >= first_hour) as weeks,
    avgIf(events, hour_at >= first_hour) as mean_events,
    greatest(4 * coalesce(stddevSampIf(events, hour_at >= first_hour), 0), 0.5 * mean_events)
        as band,
    greatest(mean_events - band, 0) as low,
    mean_events + band as high
from (
    select w.hour_at as hour_at, countIf(e.hour_at = w.hour_at) as events,
           (select count() from raw.events
            where occurred_at >= this_hour and occurred_at < this_hour + toIntervalHour(1)) as seen
    from (
        select this_hour - toIntervalWeek(number + 1) as hour_at from numbers({BASELINE_WEEKS})
    ) as w
    left join (
        select toStartOfHour(occurred_at) as hour_at from raw.events
        where occurred_at >= this_hour - toIntervalWeek({BASELINE_WEEKS})
            and toDayOfWeek(occurred_at) = toDayOfWeek(this_hour)
            and toHour(occurred_at) = toHour(this_hour)
    ) as e on e.hour_at = w.hour_at
    group by w.hour_at
)
"""


def suite(settings: Settings) -> Suite:
    """Checks of raw.events."""
    pairs = ", ".join(
        f"('{name}', '{kind.replace(chr(39), chr(92) + chr(39))}')"
        for name, kind in clickhouse_columns(event_fields()).items()
    )
    return Suite(
        table="raw.events",
        layer="raw",
        purpose="Every event that the contract accepts, once, with the types of the contract.",
        where=f"landed_at >= now64(3) - toIntervalHour({WINDOW_HOURS})",
        checks=(
            rows(
                "columns_match_contract",
                _CONTRACT.replace("{pairs}", f"[{pairs}]"),
                "names and types of herald/contract, no more and no fewer",
            ),
            has_rows(severity="warning"),
            rows(
                "offset_is_unique",
                _DUPLICATES,
                "one row for each _topic, _partition, _offset",
                column="_topic, _partition, _offset",
            ),
            *not_empty("tenant_id", "_topic", "schema_version"),
            native(
                "ExpectColumnValuesToNotBeInSet",
                "never the zero UUID",
                column="event_id",
                value_set=["00000000-0000-0000-0000-000000000000"],
            ),
            in_set("event_type", EVENT_TYPES),
            in_set("channel", Channel),
            in_set("action", Action),
            native(
                "ExpectColumnValuesToMatchRegex",
                "two capital letters or empty",
                column="country",
                regex="^([A-Z][A-Z])?$",
            ),
            rows(
                "abort_reason_is_known",
                "select event_id, failure_reason from {batch} where action = 'aborted' and"
                f" failure_reason not in ({', '.join(repr(str(r)) for r in AbortReason)})",
                f"one of {len(AbortReason)} abort reasons",
                column="failure_reason",
            ),
            rows(
                "occurred_at_is_plausible",
                "select event_id, occurred_at from {batch} where occurred_at > landed_at +"
                f" toIntervalSecond({settings.landing.future_tolerance_seconds})"
                f" or occurred_at < parseDateTime64BestEffort('{settings.landing.oldest_event}', 3,"
                " 'UTC')",
                "between the oldest event allowed and the time of landing",
                column="occurred_at",
            ),
            rows(
                "money_is_not_negative",
                "select event_id, cost from {batch} where cost < 0",
                "0 or more",
                column="cost",
            ),
            fresh("landed_at", 2, severity="warning"),
            rows(
                "rollup_counts_them_all",
                _ROLLUP,
                "as many events in live.events_hour as here, for each tenant and hour",
                column="occurred_at",
                # no mart reads it; `herald live check` tells which keys and columns differ
                severity="warning",
            ),
            measured(
                "volume_is_usual",
                _VOLUME,
                "within the band of the same hour of earlier weeks",
                column="occurred_at",
                severity="warning",
            ),
        ),
    )
