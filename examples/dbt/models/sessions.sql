select
    cast("UserId" as varchar) || ':' || cast("SessionId" as varchar) as session_key,
    "UserId" as user_id,
    "SessionId" as session_id,
    max("IndvId") as indv_id,
    max(nullif("UserAppKey", '')) as user_app_key,
    max(nullif("UserEmail", '')) as user_email,
    coalesce(min("SessionStart"), min("EventStart")) as started_at,
    max("EventStart") as ended_at,
    {{ seconds_between('coalesce(min("SessionStart"), min("EventStart"))', 'max("EventStart")') }} as seconds,
    max("PagePlatform") as platform,
    max("PageDevice") as device,
    max("PageOperatingSystem") as operating_system,
    max("PageBrowser") as browser,
    count(*) as events,
    count(distinct "PageId") as pages,
    count(*) filter (where "EventType" = 'click') as clicks,
    count(*) filter (where "EventModFrustrated" = 1) as rage_clicks,
    count(*) filter (where "EventModDead" > 0) as dead_clicks,
    count(*) filter (where "EventModError" > 0) as events_with_errors,
    count(*) filter (where "EventType" = 'exception') as exceptions,
    (array_agg("PageUrl" order by "EventStart") filter (where "PageUrl" <> ''))[1] as entry_url,
    (array_agg("PageUrl" order by "EventStart" desc) filter (where "PageUrl" <> ''))[1] as exit_url,
    '{{ var("fullstory_app") }}/ui/{{ var("fullstory_org_id") }}/session/'
        || cast("UserId" as varchar) || ':' || cast("SessionId" as varchar) as replay_url
from {{ ref('loaded_events') }}
group by "UserId", "SessionId"
