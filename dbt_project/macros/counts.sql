{# What a row of the hourly marts counts, once: columns, in the order of the tables. #}
{% macro count_columns() -%}
    {{ return([
        'targeted', 'eligible', 'attempted', 'sends', 'deliveries', 'bounces', 'soft_bounces',
        'failures', 'aborts', 'unique_opens', 'unique_human_opens', 'unique_machine_opens', 'opens',
        'human_opens', 'machine_opens', 'influenced_opens', 'unique_clicks', 'unique_human_clicks',
        'unique_machine_clicks', 'clicks', 'human_clicks', 'machine_clicks', 'unique_impressions',
        'unsubscribes', 'complaints', 'dismissals', 'reads', 'replies', 'conversions',
        'total_conversions',
    ]) }}
{%- endmacro %}

{# A flag of fct_messages and the count it makes. #}
{% macro flag_counts() -%}
    {{ return({
        'targeted': 'is_targeted', 'eligible': 'is_eligible', 'attempted': 'is_attempted',
        'sends': 'is_sent', 'deliveries': 'is_delivered', 'bounces': 'is_bounced',
        'soft_bounces': 'is_soft_bounced', 'failures': 'is_failed', 'aborts': 'is_aborted',
        'unique_opens': 'is_opened', 'unique_human_opens': 'is_human_opened',
        'unique_machine_opens': 'is_machine_opened', 'influenced_opens': 'is_influenced_opened',
        'unique_clicks': 'is_clicked', 'unique_human_clicks': 'is_human_clicked',
        'unique_machine_clicks': 'is_machine_clicked', 'unique_impressions': 'is_impressed',
        'unsubscribes': 'is_unsubscribed', 'complaints': 'is_complained',
        'dismissals': 'is_dismissed', 'reads': 'is_read', 'replies': 'is_replied',
        'conversions': 'is_converted',
    }) }}
{%- endmacro %}

{# A ratio that has no answer when nothing was there to divide by. #}
{% macro ratio(numerator, denominator) -%}
    toFloat64({{ numerator }}) / nullIf(toFloat64({{ denominator }}), 0)
{%- endmacro %}

{# Channels that report no delivery: a message is shown or it is not. #}
{% macro shown_in_app() -%}
    ('in_app', 'content_card')
{%- endmacro %}
