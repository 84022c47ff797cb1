-- grain: tenant_id x campaign_id
-- The newest version of each campaign. A row is written again only when it says something new, so
-- that its stamps tell the marts which messages to compute again.
{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key=['tenant_id', 'campaign_id'],
    engine='MergeTree()',
    order_by='(tenant_id, campaign_id)',
    partition_by='tuple()'
) }}

with latest as (
    select
        tenant_id, campaign_id, name, category, objective, status, primary_conversion,
        conversion_window_hours
    from {{ ref('stg_raw__campaigns') }}
    order by updated_at desc
    limit 1 by tenant_id, campaign_id
)

{% if is_incremental() %}
    select
        n.tenant_id as tenant_id, n.campaign_id as campaign_id, n.name as name,
        n.category as category, n.objective as objective, n.status as status,
        n.primary_conversion as primary_conversion,
        n.conversion_window_hours as conversion_window_hours,
        if(
            o.campaign_id != ''
            and (n.primary_conversion, n.conversion_window_hours)
            = (o.primary_conversion, o.conversion_window_hours),
            o.rule_updated_at,
            {{ run_stamp() }}
        ) as rule_updated_at,
        {{ run_stamp() }} as updated_at
    from latest as n
    left join {{ this }} as o on n.tenant_id = o.tenant_id and n.campaign_id = o.campaign_id
    where
        o.campaign_id = ''
        or (
            n.name, n.category, n.objective, n.status, n.primary_conversion,
            n.conversion_window_hours
        ) != (
            o.name, o.category, o.objective, o.status, o.primary_conversion,
            o.conversion_window_hours
        )
{% else %}
    select
        *,
        {{ run_stamp() }} as rule_updated_at,
        {{ run_stamp() }} as updated_at
    from latest
{% endif %}
