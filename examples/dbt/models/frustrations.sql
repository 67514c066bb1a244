with events as (
    select
        *,
        case
            when "EventModFrustrated" > 0 then 'rage click'
            when "EventModDead" > 0 then 'dead click'
            when "EventType" = 'exception' then 'exception'
            when "EventModError" > 0 then 'error'
            when "EventType" = 'thrash' then 'thrash'
        end as kind
    from {{ ref('loaded_events') }}
)

select
    kind,
    "EventStart" as happened_at,
    cast("UserId" as varchar) || ':' || cast("SessionId" as varchar) as session_key,
    cast("UserId" as varchar) || ':' || cast("SessionId" as varchar) || ':' || cast("PageId" as varchar)
        as page_view_key,
    "IndvId" as indv_id,
    coalesce(nullif("PageName", ''), "AppViewName") as page,
    nullif("PageUrl", '') as url,
    "EventType" as event_type,
    nullif("EventTargetText", '') as target_text,
    coalesce("EventTargetSelector", "EventTargetSelectorTok") as target_selector
from events
where kind is not null
