{# One row for each value of the grain. #}
{% test unique_grain(model, columns) %}
    select {{ columns | join(', ') }}, count() as copies
    from {{ model }}
    group by {{ columns | join(', ') }}
    having copies > 1
{% endtest %}
