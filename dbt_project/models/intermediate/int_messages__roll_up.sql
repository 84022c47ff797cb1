-- grain: tenant_id x message_id
-- The life of each message: what it was, when each thing first happened to it, who engaged when.
-- Rows are sorted by message in staging, so grouping needs the memory of one message at a time.
{%- set firsts = {
    'targeted_at': 'targeted', 'eligible_at': 'eligible', 'attempted_at': 'attempted',
    'sent_at': 'sent', 'delivered_at': 'delivered', 'bounced_at': 'bounced',
    'soft_bounced_at': 'soft_bounced', 'failed_at': 'failed', 'aborted_at': 'aborted',
    'first_opened_at': 'opened', 'first_clicked_at': 'clicked', 'first_impressed_at': 'impressed',
    'first_converted_at': 'converted', 'unsubscribed_at': 'unsubscribed',
    'complained_at': 'marked_as_spam', 'dismissed_at': 'dismissed', 'read_at': 'read',
    'replied_at': 'replied', 'reported_influence_at': 'influenced_opened',
} %}
{%- set labels = [
    'user_id', 'campaign_id', 'campaign_name', 'variant_id', 'template_id', 'journey_id',
    'journey_step_id', 'experiment_id', 'arm', 'category', 'provider', 'ip_pool', 'platform',
    'device_class', 'mailbox_provider', 'country', 'region', 'timezone', 'locale', 'source',
] %}
{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key=['tenant_id', 'message_id'],
    engine='MergeTree()',
    order_by='(tenant_id, message_id)',
    partition_by='tuple()',
    query_settings={'optimize_aggregation_in_order': 1},
    on_schema_change='ignore'
) }}

with ordered as (
    select
        *,
        -- events of one millisecond need an order too, or two builds could differ
        toUnixTimestamp64Milli(occurred_at) * 1048576 + bitAnd(cityHash64(event_id), 1048575) as seq
    from {{ ref('stg_raw__events') }}
    where
        message_id != ''
        {% if is_incremental() %}
            and (tenant_id, message_id) in (
                select tenant_id, message_id
                from {{ ref('stg_raw__events') }}
                where message_id != '' and staged_at > {{ watermark() }}
            )
        {% endif %}
)

select
    tenant_id,
    message_id,
    {% for label in labels %}
        {% if label == 'user_id' %}
            argMinIf(ordered.user_id, seq, ordered.user_id != '') as user_id,
        {% else %}
            toLowCardinality(argMinIf(ordered.{{ label }}, seq, ordered.{{ label }} != ''))
                as {{ label }},
        {% endif %}
    {% endfor %}
    toLowCardinality(argMinIf(ordered.channel, seq, ordered.channel != 'app')) as channel,
    max(ordered.is_holdout) as is_holdout,
    {% for name, action in firsts.items() %}
        minOrNullIf(occurred_at, action = '{{ action }}') as {{ name }},
    {% endfor %}
    minOrNullIf(occurred_at, action = 'opened' and not is_machine) as first_human_opened_at,
    minOrNullIf(occurred_at, action = 'clicked' and not is_machine) as first_human_clicked_at,
    min(occurred_at) as first_event_at,
    max(occurred_at) as last_event_at,
    toUInt64(countIf(action = 'attempted')) as attempts,
    toUInt64(countIf(action = 'deferred')) as deferrals,
    sum(ordered.cost) as cost,
    toLowCardinality(argMinIf(ordered.failure_reason, seq, action = 'aborted')) as abort_reason,
    toLowCardinality(
        argMaxIf(
            ordered.failure_class, seq, action in ('bounced', 'soft_bounced', 'failed', 'deferred')
        )
    ) as failure_class,
    toLowCardinality(
        argMaxIf(
            ordered.failure_reason, seq, action in ('bounced', 'soft_bounced', 'failed', 'deferred')
        )
    ) as failure_reason,
    arraySort(
        groupArrayIf(
            (occurred_at, action, is_machine, conversion_name, revenue),
            action in ('opened', 'clicked', 'converted')
        )
    )::Array(Tuple(
        occurred_at DateTime64(3, 'UTC'), action LowCardinality(String), is_machine Bool,
        conversion_name LowCardinality(String), revenue Decimal(18, 4)
    )) as engagements,
    groupUniqArray(toStartOfHour(occurred_at))::Array(DateTime('UTC')) as activity_hours,
    max(staged_at) as updated_at
from ordered
group by tenant_id, message_id
-- a conversion or session that only names a message is no message
having channel != ''
