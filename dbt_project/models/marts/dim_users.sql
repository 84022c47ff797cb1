-- grain: tenant_id x user_id x valid_from
-- Every state a user was in and when it was true. A deleted user ends; it has no current row.
{{ config(
    materialized='table',
    engine='MergeTree()',
    order_by='(tenant_id, user_id, valid_from)',
    partition_by='tuple()'
) }}

with periods as (
    select
        *,
        leadInFrame(toNullable(updated_at)) over (
            partition by tenant_id, user_id order by updated_at
            rows between unbounded preceding and unbounded following
        ) as next_version_at
    from {{ ref('snap_raw__users') }}
)

select
    tenant_id, user_id,
    created_at, timezone, country, locale, platform, device_class, mailbox_provider,
    acquisition_channel, is_email_subscribed, is_push_subscribed, is_sms_subscribed,
    updated_at as valid_from,
    next_version_at as valid_to,
    toBool(next_version_at is null) as is_current
from periods
where not is_deleted
