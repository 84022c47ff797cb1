{# The moment this run began: what staging stamps on the rows it writes. Everything downstream
   carries the newest stamp of what it was computed from, and asks for newer ones next time. #}
{% macro run_stamp() -%}
    toDateTime64('{{ run_started_at.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] }}', 3, 'UTC')
{%- endmacro %}

{# The newest value of a column that this table holds. 1970 when it is empty. #}
{% macro watermark(column='updated_at') -%}
    (select max({{ column }}) from {{ this }})
{%- endmacro %}

{# Hours (or dates) that messages changed since the last run have, or may once have had, a share in.
   A message whose send landed after its delivery leaves the hour of the delivery: that hour has to
   be computed again too, and comes out empty when nothing else is in it. #}
{% macro touched_periods(period) -%}
    select distinct
        tenant_id as touched_tenant_id,
        {{ period }}(arrayJoin(activity_hours)) as period_at
    from {{ ref('fct_messages') }}
    where updated_at > {{ watermark() }}
{%- endmacro %}

{# A touched hour that came out empty leaves one row of zeros, so that delete+insert deletes what
   was there; then that row goes too. The count keeps a run without such rows free of a mutation. #}
{% macro drop_empty_rows(counts) -%}
    {%- if execute and flags.WHICH in ('run', 'build') -%}
        {%- set empty = counts | join(' + ') ~ ' = 0' -%}
        {%- set found = run_query('select count() from ' ~ this ~ ' where ' ~ empty) -%}
        {%- if found and found.rows[0][0] | int > 0 -%}
            delete from {{ this }} where {{ empty }}
        {%- else -%}
            select 1
        {%- endif -%}
    {%- else -%}
        select 1
    {%- endif -%}
{%- endmacro %}
