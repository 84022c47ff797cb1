-- grain: query_kind x user x query_text
-- What the warehouse spent its time on.
{{ config(materialized='view', sql_security='definer', definer='CURRENT_USER') }}

select
    query_kind,
    user,
    -- values out, so that one query with many arguments is one row; leading comments out
    substringUTF8(
        trimBoth(
            replaceRegexpAll(
                normalizeQuery(replaceRegexpAll(query, '/\\*[^*]*\\*/', ' ')), '\\s+', ' '
            )
        ), 1, 200
    ) as query_text,
    count() as queries,
    quantile(0.5) (query_duration_ms) / 1000 as p50_seconds,
    quantile(0.95) (query_duration_ms) / 1000 as p95_seconds,
    max(query_duration_ms) / 1000 as max_seconds,
    sum(read_rows) as read_rows,
    max(event_time) as last_at
from {{ source('system', 'query_log') }}
where type = 'QueryFinish' and query_kind not in ('Set', 'Use', '')
group by query_kind, user, query_text
