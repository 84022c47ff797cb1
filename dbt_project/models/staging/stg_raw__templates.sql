-- grain: tenant_id x template_id x updated_at
-- Every version of every template. A version delivered twice is one; of two with the same time the later
-- offset is true.
{{ config(materialized='view') }}

select
    concat(tenant_id, '|', template_id, '|', toString(updated_at)) as version_id,
    tenant_id, template_id, updated_at, is_deleted,
    name, channel, category, locale, subject, body, call_to_action, version,
    landed_at
from {{ source('raw', 'templates') }}
order by landed_at desc, _offset desc
limit 1 by tenant_id, template_id, updated_at
