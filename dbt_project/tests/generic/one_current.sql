{# At most one state is current, and no two states of one entity overlap. #}
{% test one_current(model, columns) %}
    with ordered as (
        select
            {{ columns | join(', ') }}, valid_from, valid_to, is_current,
            leadInFrame(toNullable(valid_from)) over (
                partition by {{ columns | join(', ') }} order by valid_from
                rows between unbounded preceding and unbounded following
            ) as next_from
        from {{ model }}
    )

    select {{ columns | join(', ') }}, valid_from
    from ordered
    where
        (is_current and valid_to is not null)
        or (next_from is not null and (valid_to is null or valid_to > next_from))
{% endtest %}
