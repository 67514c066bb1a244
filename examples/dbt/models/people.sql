select
    indv_id,
    (array_agg(user_app_key order by started_at desc) filter (where user_app_key is not null))[1]
        as user_app_key,
    (array_agg(user_email order by started_at desc) filter (where user_email is not null))[1]
        as user_email,
    min(started_at) as first_seen_at,
    max(ended_at) as last_seen_at,
    count(distinct user_id) as devices,
    count(*) as sessions,
    sum(seconds) as seconds,
    cast(sum(events) as bigint) as events,
    cast(sum(rage_clicks) as bigint) as rage_clicks,
    cast(sum(dead_clicks) as bigint) as dead_clicks,
    cast(sum(exceptions) as bigint) as exceptions
from {{ ref('sessions') }}
group by indv_id
