-- grain: tenant_id x anchor_date x campaign_id x variant_id x channel x stage x abort_reason
-- How far messages came, and why they stopped. A message that reached a stage reached all before it,
-- also where its producer never reports them (an imported log that starts at the send).
{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key=['tenant_id', 'anchor_date'],
    engine='MergeTree()',
    order_by='(tenant_id, anchor_date, campaign_id, variant_id, channel, stage_order, abort_reason)',
    partition_by='toYYYYMM(anchor_date)',
    post_hook="{{ drop_empty_rows(['messages']) }}"
) }}

{% if is_incremental() %}
    with touched as ({{ touched_periods('toDate') }}),

    scoped as (
        select
            m.* except (tenant_id),
            t.touched_tenant_id as tenant_id,
            t.period_at as anchor_date
        from (
            select *, toDate(anchor_at) as message_date
            from {{ ref('fct_messages') }}
            where anchor_at >= (select toDateTime64(min(period_at), 3, 'UTC') from touched)
        ) as m
        right join touched as t on m.tenant_id = t.touched_tenant_id and m.message_date = t.period_at
    ),
{% else %}
    with scoped as (
        select *, toDate(anchor_at) as anchor_date
        from {{ ref('fct_messages') }}
    ),
{% endif %}

furthest as (
    select
        tenant_id, anchor_date, campaign_id, campaign_name, variant_id, channel, message_id,
        is_aborted, abort_reason, updated_at,
        toUInt8(
            multiIf(
                is_human_opened or is_influenced_opened or is_human_clicked or is_converted
                or is_read or is_replied, 6,
                is_delivered or is_impressed or is_opened or is_clicked, 5,
                is_sent, 4,
                is_attempted, 3,
                is_eligible, 2,
                1
            )
        ) as reached
    from scoped
),

entries as (
    select
        tenant_id, anchor_date, campaign_id, campaign_name, variant_id, channel, message_id,
        updated_at,
        arrayJoin(
            arrayConcat(
                arrayMap(n -> (toUInt8(n), ''), range(1, reached + 1)),
                if(is_aborted, [(reached, toString(abort_reason))], [])
            )
        ) as entry
    from furthest
)

select
    tenant_id, anchor_date, campaign_id, variant_id, channel,
    toLowCardinality(
        ['targeted', 'eligible', 'attempted', 'sent', 'delivered', 'engaged'][entry.1]
    ) as stage,
    entry.1 as stage_order,
    toLowCardinality(entry.2) as abort_reason,
    max(entries.campaign_name) as campaign_name,
    countIf(message_id != '') as messages,
    max(entries.updated_at) as updated_at
from entries
group by tenant_id, anchor_date, campaign_id, variant_id, channel, stage, stage_order, abort_reason
