-- grain: topic x partition
-- Where landing stands: what the ledger holds against what the broker had when last asked.
{{ config(materialized='view', sql_security='definer', definer='CURRENT_USER') }}

with ledger as (
    select
        topic, `partition`,
        sum(rows_stored) as landed,
        sum(rows_dead_lettered) as dead_lettered,
        max(last_offset) + 1 as landed_offset,
        max(max_occurred_at) as last_event_at,
        max(landed_at) as last_landed_at
    from {{ source('raw', 'landed_ranges') }}
    group by topic, `partition`
),

progress as (
    select topic, `partition`, max(end_offset) as end_offset
    from {{ source('live', 'landing_progress') }}
    group by topic, `partition`
)

select
    topic, `partition`,
    ledger.landed as landed,
    ledger.dead_lettered as dead_lettered,
    ledger.landed_offset as landed_offset,
    greatest(progress.end_offset, ledger.landed_offset) as end_offset,
    toUInt64(greatest(progress.end_offset, ledger.landed_offset) - ledger.landed_offset) as lag,
    ledger.last_event_at as last_event_at,
    toNullable(ledger.last_landed_at) as last_landed_at
from progress
full outer join ledger using (topic, `partition`)
