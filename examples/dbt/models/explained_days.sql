{# The days in between that have no event have a row, too: nothing may have been recorded. #}
with days as (
    select cast(moment as date) as day
    from
        (
            select cast(min(day) as timestamp) as first_day, cast(max(day) as timestamp) as last_day
            from {{ ref('daily') }}
        ) as span,
        {{ days_between('first_day', 'last_day') }} as listed (moment)
),

counts as (
    select
        days.day,
        {% for column in [
            'events', 'sessions', 'people', 'page_views', 'rage_clicks', 'dead_clicks', 'errors_after_clicks', 'exceptions'
        ] -%}
        coalesce({{ column }}, 0) as {{ column }}{{ ',' if not loop.last }}
        {% endfor %}
    from days
    left join {{ ref('daily') }} as daily on daily.day = days.day
),

changes as (
    select
        day,
        count(*) as setting_changes,
        string_agg(
            case when value = '' then what else what || ' ' || value end || ' ' || change
                || case when platform = 'all' then '' else ' (' || platform || ')' end,
            '; ' order by changed_at, change desc, what, value
        ) as settings_changed
    from {{ ref('setting_changes') }}
    group by day
)

select
    counts.*,
    lag(sessions) over (order by counts.day) as sessions_the_day_before,
    cast(round(100.0 * (sessions - lag(sessions) over (order by counts.day))
        / nullif(lag(sessions) over (order by counts.day), 0)) as integer) as sessions_change_percent,
    coalesce(setting_changes, 0) as setting_changes,
    settings_changed
from counts
left join changes on changes.day = counts.day
