{# None of the columns is empty: strings are '' when absent, so not_null would always pass. #}
{% test never_empty(model, columns) %}
    select {{ columns | join(', ') }}
    from {{ model }}
    where
        {% for column in columns %}
            {{ column }} = '' {{ 'or' if not loop.last }}
        {% endfor %}
{% endtest %}
