-- grain: tenant_id x journey_id x updated_at
-- Every version of every journey. A version delivered twice is one; of two with the same time the later
-- offset is true.
{{ config(materialized='view') }}

select
    concat(tenant_id, '|', journey_id, '|', toString(updated_at)) as version_id,
    tenant_id, journey_id, updated_at, is_deleted,
    name, status, steps,
    landed_at
from {{ source('raw', 'journeys') }}
order by landed_at desc, _offset desc
limit 1 by tenant_id, journey_id, updated_at
