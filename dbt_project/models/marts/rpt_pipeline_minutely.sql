-- grain: topic x minute_at
{{ config(materialized='view', sql_security='definer', definer='CURRENT_USER') }}

select
    toStartOfMinute(landed_at) as minute_at,
    topic,
    sum(rows_stored) as landed,
    sum(rows_dead_lettered) as dead_lettered,
    count() as ranges,
    sum(insert_seconds) as insert_seconds
from {{ source('raw', 'landed_ranges') }}
group by minute_at, topic
