-- grain: tenant_id x template_id x valid_from
-- Every state a template was in and when it was true. A deleted template ends; it has no current row.
{{ config(
    materialized='table',
    engine='MergeTree()',
    order_by='(tenant_id, template_id, valid_from)',
    partition_by='tuple()'
) }}

with periods as (
    select
        *,
        leadInFrame(toNullable(updated_at)) over (
            partition by tenant_id, template_id order by updated_at
            rows between unbounded preceding and unbounded following
        ) as next_version_at
    from {{ ref('snap_raw__templates') }}
)

select
    tenant_id, template_id,
    name, channel, category, locale, subject, body, call_to_action, version,
    updated_at as valid_from,
    next_version_at as valid_to,
    toBool(next_version_at is null) as is_current
from periods
where not is_deleted
