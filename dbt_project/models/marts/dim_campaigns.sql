-- grain: tenant_id x campaign_id x valid_from
-- Every state a campaign was in and when it was true. A deleted campaign ends; it has no current row.
{{ config(
    materialized='table',
    engine='MergeTree()',
    order_by='(tenant_id, campaign_id, valid_from)',
    partition_by='tuple()'
) }}

with periods as (
    select
        *,
        leadInFrame(toNullable(updated_at)) over (
            partition by tenant_id, campaign_id order by updated_at
            rows between unbounded preceding and unbounded following
        ) as next_version_at
    from {{ ref('snap_raw__campaigns') }}
)

select
    tenant_id, campaign_id,
    name, channel, category, status, objective, owner, template_id, journey_id,
    primary_conversion, conversion_window_hours, holdout_share, variants, starts_at, ends_at,
    fixed_cost, currency,
    updated_at as valid_from,
    next_version_at as valid_to,
    toBool(next_version_at is null) as is_current
from periods
where not is_deleted
