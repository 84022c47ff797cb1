{# Snapshots stamp in milliseconds, as the times they compare with. #}
{% macro clickhouse__snapshot_get_time() -%}
    now64(3, 'UTC')
{%- endmacro %}
