-- grain: tenant_id x campaign_id x variant_id x channel x sent_date
-- How each variant did, by day of the send. Ratios come last and never add up; counts do.
-- depends_on: {{ ref('fct_messages') }}
{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key=['tenant_id', 'sent_date'],
    engine='MergeTree()',
    order_by='(tenant_id, campaign_id, sent_date, variant_id, channel)',
    partition_by='toYYYYMM(sent_date)',
    post_hook='{{ drop_empty_rows(count_columns()) }}'
) }}

with
{% if is_incremental() %}
    touched as (
        {{ touched_periods('toDate') }}
        union distinct
        select distinct tenant_id as touched_tenant_id, toDate(hour_at) as period_at
        from {{ ref('fct_engagement_hourly') }}
        where (tenant_id, campaign_id) in (
            select tenant_id, campaign_id
            from {{ ref('int_campaigns__latest') }}
            where updated_at > {{ watermark() }}
        )
    ),

    scoped as (
        select
            h.* except (tenant_id, hour_at),
            t.touched_tenant_id as tenant_id,
            t.period_at as sent_date
        from {{ ref('fct_engagement_hourly') }} as h
        right join touched as t on h.tenant_id = t.touched_tenant_id and toDate(h.hour_at) = t.period_at
    ),
{% else %}
    scoped as (
        select * except (hour_at), toDate(hour_at) as sent_date
        from {{ ref('fct_engagement_hourly') }}
    ),
{% endif %}

daily as (
    select
        tenant_id, campaign_id, variant_id, channel, sent_date,
        max(scoped.campaign_name) as campaign_name,
        max(scoped.category) as category,
        {% for count in count_columns() %}
            sum(scoped.{{ count }}) as {{ count }},
        {% endfor %}
        toDecimal64(sum(scoped.revenue), 4) as revenue,
        toDecimal64(sum(scoped.cost), 4) as cost,
        uniqExactMerge(scoped.unique_recipients_state) as unique_recipients,
        max(scoped.updated_at) as updated_at
    from scoped
    group by tenant_id, campaign_id, variant_id, channel, sent_date
)

select
    d.tenant_id as tenant_id,
    d.campaign_id as campaign_id,
    d.variant_id as variant_id,
    d.channel as channel,
    d.sent_date as sent_date,
    d.campaign_name as campaign_name,
    d.category as category,
    c.objective as objective,
    c.status as status,
    {% for count in count_columns() %}
        d.{{ count }} as {{ count }},
    {% endfor %}
    d.revenue as revenue,
    d.cost as cost,
    d.unique_recipients as unique_recipients,
    {{ ratio("if(d.channel = 'email', toInt64(d.sends) - toInt64(d.bounces), d.deliveries)",
             "if(d.channel in " ~ shown_in_app() ~ ", 0, d.sends)") }} as delivery_rate,
    {{ ratio('d.bounces', 'd.sends') }} as bounce_rate,
    {{ ratio('d.unique_opens', 'd.deliveries') }} as unique_open_rate,
    {{ ratio('d.unique_human_opens', 'd.deliveries') }} as unique_human_open_rate,
    {{ ratio('d.unique_clicks',
             "if(d.channel in " ~ shown_in_app() ~ ", d.unique_impressions, d.deliveries)") }}
        as unique_click_rate,
    {{ ratio('d.unique_clicks', 'd.unique_opens') }} as click_to_open_rate,
    {{ ratio('d.conversions', "if(d.channel = 'in_app', d.unique_impressions, d.unique_recipients)") }}
        as conversion_rate,
    {{ ratio('d.unsubscribes', 'd.deliveries') }} as unsubscribe_rate,
    {{ ratio('d.complaints', 'd.sends') }} as spam_rate,
    {{ ratio('d.aborts', 'd.targeted') }} as abort_rate,
    {{ ratio('d.revenue', 'd.unique_recipients') }} as revenue_per_recipient,
    {{ ratio('d.cost', 'd.conversions') }} as cost_per_conversion,
    {{ ratio('d.revenue - d.cost', 'd.cost') }} as roi,
    greatest(d.updated_at, c.updated_at) as updated_at
from daily as d
left join {{ ref('int_campaigns__latest') }} as c
    on d.tenant_id = c.tenant_id and d.campaign_id = c.campaign_id
