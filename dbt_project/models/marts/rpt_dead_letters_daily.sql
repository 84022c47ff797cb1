-- grain: date x topic x error_class x error_field
{{ config(materialized='view', sql_security='definer', definer='CURRENT_USER') }}

select
    toDate(landed_at) as date,
    topic,
    error_class,
    error_field,
    count() as dead_letters
from {{ source('raw', 'dead_letters') }}
group by date, topic, error_class, error_field
