select
    indv_id,
    (array_agg(user_app_key order by started_at desc) filter (where user_app_key is not null))[1]
        as user_app_key,
    (array_agg(user_email order by started_at desc) filter (where user_email is not null))[1]
        as user_email,
    {%- for column in var('fullstory_variables') %}
    (array_agg("{{ column }}" order by started_at desc) filter (where "{{ column }}" is not null))[1]
        as "{{ column }}",
    {%- endfor %}
    min(started_at) as first_seen_at,
    max(ended_at) as last_seen_at,
    count(distinct user_id) as devices,
    count(*) as sessions,
    sum(seconds) as seconds,
    {% for column in ['events', 'rage_clicks', 'dead_clicks', 'errors_after_clicks', 'exceptions'] -%}
    cast(sum({{ column }}) as bigint) as {{ column }}{{ ',' if not loop.last }}
    {% endfor -%}
from {{ ref('sessions') }}
group by indv_id
