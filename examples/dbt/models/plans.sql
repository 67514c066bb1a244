{% set plan = '"plan"' if 'plan' in var('fullstory_variables') else 'cast(null as varchar)' %}
select
    coalesce(cast({{ plan }} as varchar), '(not known)') as plan,
    count(*) as sessions,
    count(distinct indv_id) as people,
    count(*) filter (where rage_clicks > 0) as sessions_with_rage_clicks,
    {% for column in ['rage_clicks', 'dead_clicks', 'errors_after_clicks', 'exceptions'] -%}
    cast(sum({{ column }}) as bigint) as {{ column }}{{ ',' if not loop.last }}
    {% endfor -%}
from {{ ref('sessions') }}
group by 1
