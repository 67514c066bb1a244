{{ config(materialized='incremental', unique_key='day', incremental_strategy='delete+insert') }}
{#
    A day is counted again while it is the newest one, or among the days before it that fullstory_days_again
    says; older ones stay as they are. README.md has what that means for events that come late.
#}
select
    day,
    count(*) as events,
    count(distinct cast("UserId" as varchar) || ':' || cast("SessionId" as varchar)) as sessions,
    count(distinct "IndvId") as people,
    count(distinct cast("UserId" as varchar) || ':' || cast("SessionId" as varchar) || ':'
        || cast("PageId" as varchar)) as page_views,
    {{ incidents() }}
from {{ ref('loaded_events') }}
{% if is_incremental() -%}
where day >= (select max(day) from {{ this }}) - cast({{ var('fullstory_days_again') }} as integer)
{% endif -%}
group by day
