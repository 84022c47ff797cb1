-- grain: tenant_id x sent_date x channel x provider x mailbox_provider x ip_pool
-- Whether mail and pushes get through, by who carries them and who receives them.
{%- set counts = [
    'sends', 'deliveries', 'bounces', 'soft_bounces', 'deferrals', 'failures', 'complaints',
    'unsubscribes',
] %}
{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key=['tenant_id', 'sent_date'],
    engine='MergeTree()',
    order_by='(tenant_id, sent_date, channel, provider, mailbox_provider, ip_pool)',
    partition_by='toYYYYMM(sent_date)',
    post_hook="{{ drop_empty_rows(['sends', 'deliveries', 'bounces', 'soft_bounces', 'deferrals', 'failures', 'complaints', 'unsubscribes']) }}"
) }}
{%- set flags_of = flag_counts() %}

{% if is_incremental() %}
    with touched as ({{ touched_periods('toDate') }}),

    scoped as (
        select
            m.* except (tenant_id),
            t.touched_tenant_id as tenant_id,
            t.period_at as sent_date
        from (
            select *, toDate(anchor_at) as anchor_date
            from {{ ref('fct_messages') }}
            where anchor_at >= (select toDateTime64(min(period_at), 3, 'UTC') from touched)
        ) as m
        right join touched as t on m.tenant_id = t.touched_tenant_id and m.anchor_date = t.period_at
    ),
{% else %}
    with scoped as (
        select *, toDate(anchor_at) as sent_date
        from {{ ref('fct_messages') }}
    ),
{% endif %}

daily as (
    select
        tenant_id, sent_date, channel, provider, mailbox_provider, ip_pool,
        {% for count in counts if count != 'deferrals' %}
            toUInt64(countIf(scoped.{{ flags_of[count] }})) as {{ count }},
        {% endfor %}
        toUInt64(sum(scoped.deferrals)) as deferrals,
        max(scoped.updated_at) as updated_at
    from scoped
    group by tenant_id, sent_date, channel, provider, mailbox_provider, ip_pool
)

select
    tenant_id, sent_date, channel, provider, mailbox_provider, ip_pool, {{ counts | join(', ') }},
    {{ ratio("if(channel = 'email', toInt64(sends) - toInt64(bounces), deliveries)",
             "if(channel in " ~ shown_in_app() ~ ", 0, sends)") }} as delivery_rate,
    {{ ratio('bounces', 'sends') }} as bounce_rate,
    {{ ratio('complaints', 'sends') }} as spam_rate,
    updated_at
from daily
