-- What belongs to a page is repeated on each of its events, so the largest value is the value.
select
    cast("UserId" as varchar) || ':' || cast("SessionId" as varchar) || ':' || cast("PageId" as varchar)
        as page_view_key,
    cast("UserId" as varchar) || ':' || cast("SessionId" as varchar) as session_key,
    max(page) as page,
    max(nullif("PageUrl", '')) as url,
    max(nullif("PageRefererUrl", '')) as referrer_url,
    coalesce(min("PageStart"), min("EventStart")) as started_at,
    max("PageDuration") / 1000.0 as seconds,
    max("PageActiveDuration") / 1000.0 as active_seconds,
    count(*) as events,
    count(*) filter (where "EventType" = 'click') as clicks,
    {{ incidents() }},
    max("PageMaxScrollDepthPercent") as scroll_depth_percent,
    max("LoadEventTime") as load_ms,
    max("LoadFirstPaintTime") as first_paint_ms,
    max("LoadLargestPaintTime") as largest_paint_ms,
    max("EventFirstInputDelay") as first_input_delay_ms,
    max("EventCumulativeLayoutShift") as layout_shift
from {{ ref('loaded_events') }}
group by "UserId", "SessionId", "PageId"
