-- grain: tenant_id x message_id
-- One row a message with its life cycle. Opens and clicks count within seven days of the send.
{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key=['tenant_id', 'message_id'],
    engine='MergeTree()',
    order_by='(tenant_id, campaign_id, channel, anchor_at, message_id)',
    partition_by='toYYYYMM(anchor_at)',
    on_schema_change='ignore'
) }}

with measured as (
    select
        r.* except (tenant_id, message_id, campaign_id, category, activity_hours, updated_at),
        r.tenant_id as tenant_id,
        r.message_id as message_id,
        r.campaign_id as campaign_id,
        r.category as category,
        coalesce(r.sent_at, r.attempted_at, r.targeted_at, r.first_event_at) as anchor,
        i.influenced_opened_at as influence_at,
        arrayDistinct(arrayConcat(r.activity_hours, i.activity_hours))::Array(DateTime('UTC'))
            as hours,
        c.primary_conversion as primary_name,
        if(
            c.campaign_id = '',
            {{ var('default_conversion_window_hours') }},
            toUInt32(c.conversion_window_hours)
        ) as window_hours,
        arrayFilter(
            e -> e.action in ('opened', 'clicked')
            and e.occurred_at <= anchor + toIntervalHour({{ var('engagement_window_hours') }}),
            r.engagements
        ) as timely,
        arrayFilter(e -> e.action = 'opened', timely) as timely_opens,
        arrayFilter(e -> e.action = 'clicked', timely) as timely_clicks,
        arrayFilter(e -> e.action = 'converted', r.engagements) as conversion_events,
        toUInt64(length(timely_opens)) as opens_all,
        toUInt64(arrayCount(e -> not e.is_machine, timely_opens)) as opens_human,
        toUInt64(length(timely_clicks)) as clicks_all,
        toUInt64(arrayCount(e -> not e.is_machine, timely_clicks)) as clicks_human,
        arrayFilter(
            e -> (primary_name = '' or e.conversion_name = primary_name)
            and e.occurred_at between anchor and anchor + toIntervalHour(window_hours),
            conversion_events
        ) as primary_conversions,
        greatest(r.updated_at, i.updated_at, c.rule_updated_at) as stamp
    from {{ ref('int_messages__roll_up') }} as r
    left join {{ ref('int_messages__influence') }} as i
        on r.tenant_id = i.tenant_id and r.message_id = i.message_id
    left join {{ ref('int_campaigns__latest') }} as c
        on r.tenant_id = c.tenant_id and r.campaign_id = c.campaign_id
    {% if is_incremental() %}
        where
            (r.tenant_id, r.message_id) in (
                select tenant_id, message_id
                from {{ ref('int_messages__roll_up') }}
                where updated_at > {{ watermark() }}
                union distinct
                select tenant_id, message_id
                from {{ ref('int_messages__influence') }}
                where updated_at > {{ watermark() }}
            )
            or (r.tenant_id, r.campaign_id) in (
                select tenant_id, campaign_id
                from {{ ref('int_campaigns__latest') }}
                where rule_updated_at > {{ watermark() }}
            )
    {% endif %}
)

select
    tenant_id, message_id, user_id, campaign_id, campaign_name, variant_id, template_id, journey_id,
    journey_step_id, experiment_id, arm, is_holdout, category, channel, provider, ip_pool, platform,
    device_class, mailbox_provider, country, region, timezone, locale, source,
    anchor as anchor_at,
    targeted_at, eligible_at, attempted_at, sent_at, delivered_at, bounced_at, aborted_at,
    first_opened_at, first_human_opened_at,
    influence_at as influenced_opened_at,
    first_clicked_at, first_human_clicked_at, first_impressed_at, first_converted_at,
    unsubscribed_at, complained_at, dismissed_at, read_at, replied_at,
    toBool(targeted_at is not null) as is_targeted,
    toBool(eligible_at is not null) as is_eligible,
    toBool(attempted_at is not null) as is_attempted,
    toBool(sent_at is not null) as is_sent,
    toBool(delivered_at is not null) as is_delivered,
    toBool(bounced_at is not null) as is_bounced,
    toBool(soft_bounced_at is not null) as is_soft_bounced,
    toBool(failed_at is not null) as is_failed,
    toBool(aborted_at is not null) as is_aborted,
    toBool(opens_all > 0) as is_opened,
    toBool(opens_human > 0) as is_human_opened,
    toBool(opens_all > 0 and opens_human = 0) as is_machine_opened,
    toBool(influence_at is not null) as is_influenced_opened,
    toBool(clicks_all > 0) as is_clicked,
    toBool(clicks_human > 0) as is_human_clicked,
    toBool(clicks_all > 0 and clicks_human = 0) as is_machine_clicked,
    toBool(first_impressed_at is not null) as is_impressed,
    toBool(notEmpty(primary_conversions)) as is_converted,
    toBool(unsubscribed_at is not null) as is_unsubscribed,
    toBool(complained_at is not null) as is_complained,
    toBool(dismissed_at is not null) as is_dismissed,
    toBool(read_at is not null) as is_read,
    toBool(replied_at is not null) as is_replied,
    opens_all as opens,
    opens_human as human_opens,
    opens_all - opens_human as machine_opens,
    clicks_all as clicks,
    clicks_human as human_clicks,
    clicks_all - clicks_human as machine_clicks,
    toUInt64(length(conversion_events)) as conversions,
    attempts,
    deferrals,
    toDecimal64(arraySum(e -> e.revenue, conversion_events), 4) as revenue,
    toDecimal64(cost, 4) as cost,
    abort_reason, failure_class, failure_reason,
    soft_bounced_at, failed_at,
    if(notEmpty(primary_conversions), tupleElement(primary_conversions[1], 'occurred_at'), null) as converted_at,
    arrayConcat(timely, conversion_events) as engagements,
    hours as activity_hours,
    last_event_at,
    stamp as updated_at
from measured
