select
    cast("UserId" as varchar) || ':' || cast("SessionId" as varchar) as session_key,
    "UserId" as user_id,
    "SessionId" as session_id,
    max("IndvId") as indv_id,
    max(nullif("UserAppKey", '')) as user_app_key,
    max(nullif("UserEmail", '')) as user_email,
    {%- for column in var('fullstory_variables') %}
    (array_agg("{{ column }}" order by "EventStart" desc) filter (where "{{ column }}" is not null))[1]
        as "{{ column }}",
    {%- endfor %}
    coalesce(min("SessionStart"), min("EventStart")) as started_at,
    max("EventStart") as ended_at,
    {{ seconds_between('coalesce(min("SessionStart"), min("EventStart"))', 'max("EventStart")') }} as seconds,
    max(platform) as platform,
    max("PageDevice") as device,
    max("PageOperatingSystem") as operating_system,
    max("PageBrowser") as browser,
    count(*) as events,
    count(distinct "PageId") as pages,
    count(*) filter (where "EventType" = 'click') as clicks,
    {{ incidents() }},
    (array_agg(page order by "EventStart") filter (where page is not null))[1] as entry_page,
    (array_agg(page order by "EventStart" desc) filter (where page is not null))[1] as exit_page,
    (array_agg("PageUrl" order by "EventStart") filter (where "PageUrl" <> ''))[1] as entry_url,
    (array_agg("PageUrl" order by "EventStart" desc) filter (where "PageUrl" <> ''))[1] as exit_url,
    '{{ var("fullstory_app") }}/ui/{{ var("fullstory_org_id") }}/session/'
        || cast("UserId" as varchar) || ':' || cast("SessionId" as varchar) as replay_url
from {{ ref('loaded_events') }}
group by "UserId", "SessionId"
