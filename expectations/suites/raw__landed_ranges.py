"""raw.landed_ranges: the ledger. Produced = stored + dead-lettered, offset by offset."""

from __future__ import annotations

from expectations.checks import has_rows, measured, rows
from expectations.model import Suite
from herald.settings import Settings

WINDOW_HOURS = 26
MAX_LAG = 2_000_000

_NEIGHBOURS = """
select topic, partition, first_offset, last_offset, previous_last from (
    select topic, partition, first_offset, last_offset,
           lagInFrame(toNullable(last_offset)) over (
               partition by topic, partition order by first_offset
               rows between 1 preceding and current row
           ) as previous_last
    from raw.landed_ranges
) where previous_last is not null and {condition}
"""

# Only what the job has declared passed is compared: a range being written now is not yet missing.
_PRODUCED = """
select p.topic as topic, p.partition as partition,
       p.passed - l.begin as produced, l.stored as stored, l.dead_lettered as dead_lettered
from (
    select topic, partition, argMax(next_offset, observed_at) as passed
    from live.landing_progress where topic = '{topic}' group by topic, partition
) as p
inner join (
    select r.topic as topic, r.partition as partition, min(r.first_offset) as begin,
           sumIf(r.rows_stored, r.last_offset < q.passed) as stored,
           sumIf(r.rows_dead_lettered, r.last_offset < q.passed) as dead_lettered
    from raw.landed_ranges as r
    inner join (
        select topic, partition, argMax(next_offset, observed_at) as passed
        from live.landing_progress group by topic, partition
    ) as q on r.topic = q.topic and r.partition = q.partition
    group by r.topic, r.partition
) as l on p.topic = l.topic and p.partition = l.partition
where p.passed > l.begin and produced != stored + dead_lettered
"""

_STORED = """
select l.topic as topic, l.partition as partition, l.ledger_rows as ledger_rows,
       coalesce(s.table_rows, 0) as table_rows
from (
    select topic, partition, sum({column}) as ledger_rows,
           min(first_offset) as low, max(last_offset) as high
    from {batch} group by topic, partition
) as l
left join (
    select s.topic as topic, s.partition as partition, count() as table_rows
    from ({rows}) as s
    inner join (
        select topic, partition, min(first_offset) as low, max(last_offset) as high
        from {batch} group by topic, partition
    ) as b on s.topic = b.topic and s.partition = b.partition
    where s.offset between b.low and b.high
    group by s.topic, s.partition
) as s on l.topic = s.topic and l.partition = s.partition
where ledger_rows != table_rows
"""

_TABLES = ("events", "campaigns", "templates", "journeys", "users")


def suite(settings: Settings) -> Suite:
    """Checks of raw.landed_ranges."""
    stored = " union all ".join(
        f"select _topic as topic, _partition as partition, _offset as offset from raw.{table}"
        for table in _TABLES
    )
    refused = "select topic, partition, offset from raw.dead_letters"
    topic = settings.kafka.topics.events
    return Suite(
        table="raw.landed_ranges",
        layer="raw",
        purpose="Nothing that was produced is lost or doubled: each offset is in one range, and"
        " each range is as many rows as it says.",
        where=f"landed_at >= now64(3) - toIntervalHour({WINDOW_HOURS})",
        checks=(
            has_rows(severity="warning"),
            rows(
                "ranges_do_not_overlap",
                _NEIGHBOURS.replace("{condition}", "first_offset <= previous_last"),
                "each offset in at most one range",
                column="first_offset",
            ),
            rows(
                "ranges_are_contiguous",
                # reference topics are compacted, so gaps are ordinary there
                _NEIGHBOURS.replace(
                    "{condition}", f"topic = '{topic}' and first_offset > previous_last + 1"
                ),
                "no offset between two ranges",
                column="first_offset",
            ),
            rows(
                "range_is_accounted_for",
                "select topic, partition, first_offset, last_offset, rows_stored,"
                " rows_dead_lettered from {batch} where"
                f" topic = '{topic}' and last_offset - first_offset + 1 !="
                " rows_stored + rows_dead_lettered",
                "offsets of a range = rows stored + rows dead-lettered",
                column="rows_stored",
            ),
            rows(
                "produced_is_stored_or_dead_lettered",
                _PRODUCED.replace("{topic}", topic),
                "produced = stored + dead-lettered, for each partition",
                column="rows_stored",
            ),
            rows(
                "stored_rows_are_there",
                _STORED.replace("{column}", "rows_stored").replace("{rows}", stored),
                "as many rows in the tables as the ledger says",
                column="rows_stored",
            ),
            rows(
                "dead_letters_are_there",
                _STORED.replace("{column}", "rows_dead_lettered").replace("{rows}", refused),
                "as many dead letters as the ledger says",
                column="rows_dead_lettered",
            ),
            measured(
                "lag_is_bounded",
                f"""
                select concat(toString(sum(lag)), ' offsets') as observed,
                       'at most {MAX_LAG} offsets' as expected,
                       sum(lag) <= {MAX_LAG} as is_ok,
                       if(count() = 0, 'no progress observed yet', '') as note
                from (
                    select argMax(end_offset, observed_at) - argMax(next_offset, observed_at) as lag
                    from live.landing_progress group by topic, partition
                )
                """,
                f"end offset - next offset at most {MAX_LAG}",
                column="last_offset",
                severity="warning",
            ),
        ),
    )
