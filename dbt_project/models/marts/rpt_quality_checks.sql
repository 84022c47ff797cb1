-- grain: suite x table x expectation x column
-- The newest answer of every check.
{{ config(materialized='view', sql_security='definer', definer='CURRENT_USER') }}

select
    suite, layer, table, expectation, column, severity,
    success as is_success,
    multiIf(success, 'passed', severity = 'warning', 'warned', 'failed') as outcome,
    observed, expected, message, checked_at
from {{ source('governance', 'quality_results') }}
where (suite, run_id) in (
    select suite, argMax(run_id, checked_at)
    from {{ source('governance', 'quality_results') }}
    group by suite
)
order by checked_at desc
limit 1 by suite, table, expectation, column
