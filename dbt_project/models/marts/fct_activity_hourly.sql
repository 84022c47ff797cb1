-- grain: tenant_id x campaign_id x variant_id x channel x country x platform x device_class x hour_at
-- Date scope "event in range": each thing in the hour it happened; a message opened at least once
-- counts in the hour of its first open.
{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key=['tenant_id', 'hour_at'],
    engine='MergeTree()',
    order_by='(tenant_id, hour_at, campaign_id, variant_id, channel, country, platform, device_class)',
    partition_by='toYYYYMM(hour_at)',
    post_hook='{{ drop_empty_rows(count_columns()) }}'
) }}
{%- set columns = count_columns() %}
{%- set moments = {
    'targeted': 'targeted_at', 'eligible': 'eligible_at', 'attempted': 'attempted_at',
    'sends': 'sent_at', 'deliveries': 'delivered_at', 'bounces': 'bounced_at',
    'soft_bounces': 'soft_bounced_at', 'failures': 'failed_at', 'aborts': 'aborted_at',
    'influenced_opens': 'influenced_opened_at', 'unique_impressions': 'first_impressed_at',
    'unsubscribes': 'unsubscribed_at', 'complaints': 'complained_at', 'dismissals': 'dismissed_at',
    'reads': 'read_at', 'replies': 'replied_at', 'conversions': 'converted_at',
} %}
{%- set keys = 'tenant_id, campaign_id, variant_id, channel, country, platform, device_class' %}
{%- set revenue_code = columns | length + 1 %}
{%- set cost_code = columns | length + 2 %}

{% if is_incremental() %}
    with touched as ({{ touched_periods('toStartOfHour') }}),
{% else %}
    with
{% endif %}

-- what is counted, as (number of the count, when, how much)
messages as (
    select
        {{ keys }}, campaign_name, category, user_id, updated_at,
        arrayFilter(e -> e.action = 'opened', engagements) as open_events,
        arrayFilter(e -> e.action = 'clicked', engagements) as click_events,
        arrayFilter(e -> e.action = 'converted', engagements) as conversion_events,
        arrayFilter(e -> not e.is_machine, open_events) as human_open_events,
        arrayFilter(e -> not e.is_machine, click_events) as human_click_events,
        arrayConcat(
            arrayMap(
                x -> (x.1, assumeNotNull(x.2), toDecimal64(1, 4)),
                arrayFilter(
                    x -> x.2 is not null,
                    [
                        {% for count, column in moments.items() %}
                            ({{ columns.index(count) + 1 }}, {{ column }}){{ ',' if not loop.last }}
                        {% endfor %}
                    ]
                )
            ),
            {% for noun in ['open', 'click'] %}
                {% for count, events in {
                    'unique_' ~ noun ~ 's': noun ~ '_events',
                    'unique_human_' ~ noun ~ 's': 'human_' ~ noun ~ '_events',
                    'unique_machine_' ~ noun ~ 's':
                        'if(empty(human_' ~ noun ~ '_events), ' ~ noun ~ '_events, [])',
                }.items() %}
                    arrayMap(
                        e -> ({{ columns.index(count) + 1 }}, e.occurred_at, toDecimal64(1, 4)),
                        arraySlice({{ events }}, 1, 1)
                    ),
                {% endfor %}
                arrayMap(
                    e -> ({{ columns.index(noun ~ 's') + 1 }}, e.occurred_at, toDecimal64(1, 4)),
                    {{ noun }}_events
                ),
                arrayMap(
                    e -> (
                        if(
                            e.is_machine,
                            {{ columns.index('machine_' ~ noun ~ 's') + 1 }},
                            {{ columns.index('human_' ~ noun ~ 's') + 1 }}
                        ), e.occurred_at, toDecimal64(1, 4)
                    ), {{ noun }}_events
                ),
            {% endfor %}
            arrayMap(
                e -> (
                    {{ columns.index('total_conversions') + 1 }}, e.occurred_at, toDecimal64(1, 4)
                ), conversion_events
            ),
            arrayMap(e -> ({{ revenue_code }}, e.occurred_at, e.revenue), conversion_events),
            if(cost = 0, [], [({{ cost_code }}, anchor_at, cost)])
        ) as counted
    from {{ ref('fct_messages') }}
    {% if is_incremental() %}
        where
            arrayMax(activity_hours) >= (select min(period_at) from touched)
            and arrayMin(activity_hours) <= (select max(period_at) from touched)
    {% endif %}
),

moments as (
    select
        {{ keys }}, campaign_name, category, user_id, updated_at,
        toStartOfHour(entry.2) as hour_at,
        toUInt8(entry.1) as code,
        entry.3 as amount
    from messages
    array join counted as entry
    {% if is_incremental() %}
        where (tenant_id, toStartOfHour(entry.2)) in (
            select touched_tenant_id, period_at from touched
        )
    {% endif %}
),

scoped as (
    {% if is_incremental() %}
        select
            m.* except (tenant_id, hour_at),
            t.touched_tenant_id as tenant_id,
            t.period_at as hour_at
        from moments as m
        right join touched as t on m.tenant_id = t.touched_tenant_id and m.hour_at = t.period_at
    {% else %}
        select * from moments
    {% endif %}
)

select
    {{ keys }}, hour_at,
    max(scoped.campaign_name) as campaign_name,
    max(scoped.category) as category,
    {% for count in columns %}
        countIf(code = {{ loop.index }}) as {{ count }},
    {% endfor %}
    toDecimal64(sumIf(amount, code = {{ revenue_code }}), 4) as revenue,
    toDecimal64(sumIf(amount, code = {{ cost_code }}), 4) as cost,
    uniqExactStateIf(
        scoped.user_id,
        code in ({{ columns.index('sends') + 1 }}, {{ columns.index('unique_impressions') + 1 }})
    ) as unique_recipients_state,
    max(scoped.updated_at) as updated_at
from scoped
group by {{ keys }}, hour_at
