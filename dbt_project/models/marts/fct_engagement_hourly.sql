-- grain: tenant_id x campaign_id x variant_id x channel x country x platform x device_class x hour_at
-- Date scope "sent in range": everything that became of the messages sent in the hour, whenever it
-- happened. A late open changes the hour of its send.
{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key=['tenant_id', 'hour_at'],
    engine='MergeTree()',
    order_by='(tenant_id, hour_at, campaign_id, variant_id, channel, country, platform, device_class)',
    partition_by='toYYYYMM(hour_at)',
    post_hook='{{ drop_empty_rows(count_columns()) }}'
) }}
{%- set flags_of = flag_counts() %}
{%- set sum_of = {'total_conversions': 'conversions'} %}

{% if is_incremental() %}
    with touched as ({{ touched_periods('toStartOfHour') }}),

    scoped as (
        select
            m.* except (tenant_id),
            t.touched_tenant_id as tenant_id,
            t.period_at as hour_at
        from (
            select *, toStartOfHour(anchor_at) as anchor_hour
            from {{ ref('fct_messages') }}
            where anchor_at >= (select min(period_at) from touched)
        ) as m
        right join touched as t on m.tenant_id = t.touched_tenant_id and m.anchor_hour = t.period_at
    )
{% else %}
    with scoped as (
        select *, toStartOfHour(anchor_at) as hour_at
        from {{ ref('fct_messages') }}
    )
{% endif %}

select
    tenant_id, campaign_id, variant_id, channel, country, platform, device_class, hour_at,
    max(scoped.campaign_name) as campaign_name,
    max(scoped.category) as category,
    {% for count in count_columns() %}
        {% if count in flags_of %}
            toUInt64(countIf(scoped.{{ flags_of[count] }})) as {{ count }},
        {% else %}
            toUInt64(sum(scoped.{{ sum_of.get(count, count) }})) as {{ count }},
        {% endif %}
    {% endfor %}
    toDecimal64(sum(scoped.revenue), 4) as revenue,
    toDecimal64(sum(scoped.cost), 4) as cost,
    uniqExactStateIf(scoped.user_id, scoped.is_sent or scoped.is_impressed)
        as unique_recipients_state,
    max(scoped.updated_at) as updated_at
from scoped
group by tenant_id, campaign_id, variant_id, channel, country, platform, device_class, hour_at
