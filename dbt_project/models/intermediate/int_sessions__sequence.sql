-- grain: tenant_id x user_id
-- When a user opened the app, in order: what tells an influenced open from a habit.
{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key=['tenant_id', 'user_id'],
    engine='MergeTree()',
    order_by='(tenant_id, user_id)',
    partition_by='tuple()'
) }}

select
    tenant_id,
    user_id,
    arraySort(groupUniqArray(occurred_at)) as session_starts,
    length(session_starts) as sessions,
    max(staged_at) as updated_at
from {{ ref('stg_raw__events') }}
where
    action = 'session_started' and user_id != ''
    {% if is_incremental() %}
        and (tenant_id, user_id) in (
            select tenant_id, user_id
            from {{ ref('stg_raw__events') }}
            where action = 'session_started' and staged_at > {{ watermark() }}
        )
    {% endif %}
group by tenant_id, user_id
