-- Each kind of frustration has as many rows as the sessions, the page views and the plans count.
with counted as (
    {% for column, kind in {
        'rage_clicks': 'rage click', 'dead_clicks': 'dead click', 'errors_after_clicks': 'error', 'exceptions': 'exception'
    }.items() -%}
    select
        '{{ kind }}' as kind,
        (select count(*) from {{ ref('frustrations') }} where kind = '{{ kind }}') as listed,
        (select sum({{ column }}) from {{ ref('sessions') }}) as in_sessions,
        (select sum({{ column }}) from {{ ref('page_views') }}) as in_page_views,
        (select sum({{ column }}) from {{ ref('plans') }}) as by_plan
    {{ 'union all' if not loop.last }}
    {% endfor %}
)

select *
from counted
where listed <> in_sessions or listed <> in_page_views or listed <> by_plan
