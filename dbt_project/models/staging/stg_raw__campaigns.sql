-- grain: tenant_id x campaign_id x updated_at
-- Every version of every campaign. A version delivered twice is one; of two with the same time the later
-- offset is true.
{{ config(materialized='view') }}

select
    concat(tenant_id, '|', campaign_id, '|', toString(updated_at)) as version_id,
    tenant_id, campaign_id, updated_at, is_deleted,
    name, channel, category, status, objective, owner, template_id, journey_id,
    primary_conversion, conversion_window_hours, holdout_share, variants, starts_at, ends_at,
    fixed_cost, currency,
    landed_at
from {{ source('raw', 'campaigns') }}
order by landed_at desc, _offset desc
limit 1 by tenant_id, campaign_id, updated_at
