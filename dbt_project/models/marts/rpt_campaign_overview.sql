-- grain: tenant_id x campaign_id x variant_id x channel x country x platform x device_class x hour_at
-- x audience
-- fct_engagement_hourly once for each audience, so that one filter of a dashboard switches whose
-- opens and clicks count. Rows of several audiences never add up: choose one.
{{ config(materialized='view', sql_security='definer', definer='CURRENT_USER') }}
{%- set engagement = ['unique_opens', 'opens', 'unique_clicks', 'clicks'] %}

{% for audience in ['all', 'human', 'machine'] %}
    select
        '{{ audience }}' as audience,
        tenant_id, campaign_id, variant_id, channel, country, platform, device_class, hour_at,
        campaign_name, category,
        {% for count in count_columns() if 'human_' not in count and 'machine_' not in count %}
            {% if audience == 'machine' and count == 'influenced_opens' %}
                toUInt64(0) as influenced_opens,
            {% elif audience == 'all' or count not in engagement %}
                h.{{ count }} as {{ count }},
            {% elif count.startswith('unique_') %}
                h.unique_{{ audience }}_{{ count[7:] }} as {{ count }},
            {% else %}
                h.{{ audience }}_{{ count }} as {{ count }},
            {% endif %}
        {% endfor %}
        h.revenue as revenue,
        h.cost as cost,
        h.unique_recipients_state as unique_recipients_state,
        h.updated_at as updated_at
    from {{ ref('fct_engagement_hourly') }} as h
    {{ 'union all' if not loop.last }}
{% endfor %}
