-- grain: event_id
-- One row per event however often its producer delivered it, with the verdict on who engaged.
-- A verdict depends on the other events of its message, so a message is staged as a whole.
{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key='event_id',
    engine='MergeTree()',
    order_by='(tenant_id, message_id, occurred_at, event_id)',
    partition_by='toYYYYMM(occurred_at)'
) }}

with
{% if is_incremental() %}
    -- Inserts not staged yet. Ranges become visible in any order, and one insert month by month, so
    -- a plain "newer than" would lose some: each insert is told by partition, time and month.
    landed as (
        select
            event_id,
            if(message_id = '', toString(event_id), message_id) as unit_id
        from {{ source('raw', 'events') }}
        where
            landed_at
            > {{ watermark('landed_at') }} - toIntervalMinute({{ var('landing_overlap_minutes') }})
            and (_topic, _partition, landed_at, toYYYYMM(occurred_at)) not in (
                select distinct _topic, _partition, landed_at, toYYYYMM(occurred_at) as month
                from {{ this }}
                where
                    landed_at
                    > {{ watermark('landed_at') }}
                    - toIntervalMinute({{ var('landing_overlap_minutes') }})
            )
    ),

    -- messages (or lone events) about which something landed that is no redelivery
    fresh as (
        select distinct unit_id
        from landed
        where
            event_id not in (
                select event_id from {{ this }}
                where event_id in (select event_id from landed)
            )
    ),
{% endif %}

scoped as (
    select *
    from {{ source('raw', 'events') }}
    {% if is_incremental() %}
        where
            if(message_id = '', toString(event_id), message_id) in (select unit_id from fresh)
    {% endif %}
),

-- producers redeliver under new offsets; the landing token cannot see that. The first landed stays,
-- so that a redelivery changes nothing.
redelivered as (
    select
        tenant_id as redelivered_tenant_id,
        event_id as redelivered_event_id,
        count() as deliveries,
        min((landed_at, _topic, _partition, _offset)) as kept
    from scoped
    group by redelivered_tenant_id, redelivered_event_id
    having deliveries > 1
),

engaged_messages as (
    select
        tenant_id as engaged_tenant_id,
        message_id as engaged_message_id,
        minIf(occurred_at, action = 'sent') as sent_at,
        max(if(properties = '', 0, JSONExtractUInt(properties, 'link_count'))) as link_count,
        uniqExactIf(link_id, action = 'clicked' and link_id != '') as clicked_links
    from scoped
    where message_id != '' and action in ('sent', 'opened', 'clicked')
    group by engaged_tenant_id, engaged_message_id
    having countIf(action in ('opened', 'clicked')) > 0
),

signatures as (
    select
        groupArrayIf(pattern, kind = 'user_agent') as bot_agents,
        groupArrayIf(pattern, kind = 'image_proxy') as proxy_agents,
        groupArrayIf(pattern, kind = 'address_range') as address_ranges,
        groupArrayIf(pattern, kind = 'honeypot_link') as honeypot_links
    from {{ ref('bot_signatures') }}
),

judged as (
    select
        e.*,
        e.action in ('opened', 'clicked', 'unsubscribed') as is_engagement,
        if(
            is_engagement and e.properties not in ('', '{}'),
            JSONExtractString(e.properties, 'ip'),
            ''
        ) as address,
        e.action = 'opened' and (
            e.machine_open
            or multiSearchAnyCaseInsensitive(e.user_agent, (select proxy_agents from signatures))
        ) as is_machine_open,
        if(
            is_engagement,
            arrayFilter(
                reason -> reason != '',
                [
                    if(
                        multiSearchAnyCaseInsensitive(
                            e.user_agent, (select bot_agents from signatures)
                        ), 'user_agent', ''
                    ),
                    if(
                        (isIPv4String(address) or isIPv6String(address))
                        and arrayExists(
                            network -> isIPAddressInRange(
                                if(address = '', '0.0.0.0', address), network
                            ),
                            (select address_ranges from signatures)
                        ), 'address_range', ''
                    ),
                    if(
                        e.properties not in ('', '{}')
                        and upper(JSONExtractString(e.properties, 'http_method')) = 'HEAD',
                        'head_request', ''
                    ),
                    if(
                        toUnixTimestamp64Milli(m.sent_at) > 0
                        and e.action in ('opened', 'clicked')
                        and dateDiff('millisecond', m.sent_at, e.occurred_at)
                        between 0 and {{ var('too_fast_milliseconds') }} - 1,
                        'too_fast', ''
                    ),
                    if(
                        e.action = 'clicked'
                        and m.link_count >= {{ var('every_link_minimum') }}
                        and m.clicked_links >= m.link_count,
                        'every_link', ''
                    ),
                    if(
                        e.action = 'clicked' and (
                            has((select honeypot_links from signatures), e.link_id)
                            or (
                                e.properties not in ('', '{}')
                                and JSONExtractBool(e.properties, 'is_honeypot')
                            )
                        ), 'honeypot', ''
                    )
                ]
            ),
            []
        ) as found_reasons,
        arrayDistinct(
            arrayConcat(e.suspected_bot_reasons, found_reasons)
        ) as bot_reasons,
        -- the producer's own verdict stands; of ours it takes two, or one that is certain
        is_engagement and (
            e.is_suspected_bot
            or hasAny(bot_reasons, ['honeypot', 'user_agent'])
            or length(bot_reasons) >= 2
        ) as is_bot
    from scoped as e
    left any join redelivered as r
        on e.tenant_id = r.redelivered_tenant_id and e.event_id = r.redelivered_event_id
    left any join engaged_messages as m
        on e.tenant_id = m.engaged_tenant_id and e.message_id = m.engaged_message_id
    where
        r.deliveries = 0 or (e.landed_at, e._topic, e._partition, e._offset) = r.kept
)

select
    event_id, source, schema_version, tenant_id, event_type, channel, action, occurred_at,
    ingested_at, timezone, user_id, anonymous_id, device_id, session_id, message_id, send_id,
    campaign_id, campaign_name, variant_id, template_id, journey_id, journey_step_id, category,
    experiment_id, arm, is_holdout, provider, ip_pool, platform, os_version, app_version,
    device_model, device_class, browser, mailbox_provider, country, region, city, locale, link_id,
    button_id, failure_class, failure_reason, provider_code, attempt, conversion_name,
    coalesce(revenue, toDecimal64(0, 4)) as revenue,
    currency,
    coalesce(cost, toDecimal64(0, 4)) as cost,
    toBool(is_machine_open or is_bot) as is_machine,
    toBool(is_bot) as is_suspected_bot,
    bot_reasons,
    _topic, _partition, _offset, landed_at,
    {{ run_stamp() }} as staged_at
from judged
