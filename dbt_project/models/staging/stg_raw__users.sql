-- grain: tenant_id x user_id x updated_at
-- Every version of every user. A version delivered twice is one; of two with the same time the later
-- offset is true.
{{ config(materialized='view') }}

select
    concat(tenant_id, '|', user_id, '|', toString(updated_at)) as version_id,
    tenant_id, user_id, updated_at, is_deleted,
    created_at, timezone, country, locale, platform, device_class, mailbox_provider,
    acquisition_channel, is_email_subscribed, is_push_subscribed, is_sms_subscribed,
    landed_at
from {{ source('raw', 'users') }}
order by landed_at desc, _offset desc
limit 1 by tenant_id, user_id, updated_at
