{# An aggregate of the model equals one of another model: nothing fell out on the way. #}
{% test same_total(model, expression, to, to_expression) %}
    select *
    from
        (select {{ expression }} as here from {{ model }}) as here,
        (select {{ to_expression }} as there from {{ to }}) as there
    where here.here != there.there
{% endtest %}
