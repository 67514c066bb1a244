with numbered as (
    select
        *,
        -- Each click that is the first of a series begins another one.
        case when "EventModFrustrated" > 0 then
            count(case when "EventModFrustrated" = 1 then 1 end) over (
                partition by "UserId", "SessionId" order by "EventStart", "EventModFrustrated"
                rows unbounded preceding
            )
        end as series
    from {{ ref('loaded_events') }}
),

events as (
    select *, count(*) over (partition by "UserId", "SessionId", series) as clicks_in_series
    from numbered
),

kinds as (
    select 'rage click' as kind
    union all select 'dead click'
    union all select 'error'
    union all select 'exception'
    union all select 'thrash'
)

select
    kind,
    "EventStart" as happened_at,
    cast("UserId" as varchar) || ':' || cast("SessionId" as varchar) as session_key,
    cast("UserId" as varchar) || ':' || cast("SessionId" as varchar) || ':' || cast("PageId" as varchar)
        as page_view_key,
    "IndvId" as indv_id,
    page,
    nullif("PageUrl", '') as url,
    "EventType" as event_type,
    case when kind = 'rage click' then clicks_in_series end as clicks,
    nullif("EventTargetText", '') as target_text,
    coalesce("EventTargetSelector", "EventTargetSelectorTok") as target_selector
from events
cross join kinds
where
    case kind
        when 'rage click' then "EventModFrustrated" = 1
        when 'dead click' then "EventModDead" > 0
        when 'error' then is_error_after_click
        else "EventType" = kind
    end
