-- grain: tenant_id x message_id
-- Push messages whose user opened the app soon after, without a tap: within 30 minutes, or under
-- half of the user's mean gap between the sessions before the push (what a stream can know too).
-- A row is written only when the answer changes; NULL takes an earlier answer back.
{{ config(
    materialized='incremental',
    incremental_strategy='delete+insert',
    unique_key=['tenant_id', 'message_id'],
    engine='MergeTree()',
    order_by='(tenant_id, message_id)',
    partition_by='tuple()'
) }}

with pushes as (
    select
        tenant_id, message_id, user_id,
        coalesce(delivered_at, sent_at) as pushed_at,
        reported_influence_at,
        arrayFilter(
            at -> at is not null, [first_opened_at, first_clicked_at]
        ) as taps,
        updated_at
    from {{ ref('int_messages__roll_up') }}
    where
        channel in ('push', 'web_push')
        and pushed_at is not null
        {% if is_incremental() %}
            and (
                updated_at > {{ watermark() }}
                or (tenant_id, user_id) in (
                    select tenant_id, user_id
                    from {{ ref('int_sessions__sequence') }}
                    where updated_at > {{ watermark() }}
                )
            )
        {% endif %}
),

measured as (
    select
        p.tenant_id as tenant_id,
        p.message_id as message_id,
        p.reported_influence_at as reported_influence_at,
        assumeNotNull(p.pushed_at) as pushed_at,
        p.taps as taps,
        greatest(p.updated_at, s.updated_at) as updated_at,
        -- position of the first session after the push; 0 when there is none
        arrayFirstIndex(at -> at > pushed_at, s.session_starts) as next_session,
        if(next_session > 0, s.session_starts[next_session], pushed_at) as session_at,
        if(next_session > 0, next_session - 1, length(s.session_starts)) as sessions_before,
        if(
            sessions_before >= 2,
            dateDiff('millisecond', s.session_starts[1], s.session_starts[sessions_before])
            / (sessions_before - 1),
            0
        ) as mean_gap_ms,
        greatest({{ var('influence_minutes') }} * 60000, mean_gap_ms / 2) as window_ms,
        next_session > 0
        and (
            dateDiff('millisecond', pushed_at, session_at)
            <= {{ var('influence_minutes') }} * 60000
            or dateDiff('millisecond', pushed_at, session_at) < mean_gap_ms / 2
        )
        -- a tap and the session it starts may be logged in either order
        and not arrayExists(at -> at <= session_at + toIntervalMinute(1), taps) as is_influenced
    from pushes as p
    left join {{ ref('int_sessions__sequence') }} as s
        on p.tenant_id = s.tenant_id and p.user_id = s.user_id
),

answered as (
    select
        tenant_id,
        message_id,
        if(is_influenced, toNullable(session_at), reported_influence_at) as influenced_opened_at,
        updated_at
    from measured
)

{% if is_incremental() %}
    select
        a.tenant_id as tenant_id,
        a.message_id as message_id,
        a.influenced_opened_at as influenced_opened_at,
        -- the hour of an answer taken back has to be counted again
        arrayDistinct(
            arrayConcat(
                o.activity_hours,
                arrayMap(
                    at -> toStartOfHour(assumeNotNull(at)),
                    arrayFilter(at -> at is not null, [a.influenced_opened_at])
                )
            )
        )::Array(DateTime('UTC')) as activity_hours,
        a.updated_at as updated_at
    from answered as a
    left join {{ this }} as o on a.tenant_id = o.tenant_id and a.message_id = o.message_id
    where a.influenced_opened_at is distinct from o.influenced_opened_at
{% else %}
    select
        tenant_id,
        message_id,
        influenced_opened_at,
        [toStartOfHour(assumeNotNull(influenced_opened_at))]::Array(DateTime('UTC'))
            as activity_hours,
        updated_at
    from answered
    where influenced_opened_at is not null
{% endif %}
