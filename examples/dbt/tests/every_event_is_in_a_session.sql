-- Every event is counted in exactly one session, and in exactly one page view.
select *
from (
    select
        (select count(*) from {{ source('fullstory', 'events') }}) as events,
        (select sum(events) from {{ ref('sessions') }}) as in_sessions,
        (select sum(events) from {{ ref('page_views') }}) as in_page_views,
        (select sum(events) from {{ ref('people') }}) as of_people
) as counted
where events <> in_sessions or events <> in_page_views or events <> of_people
