{#
    The columns that the models use, in the tap's spelling. One that the table lacks is null, such as one that
    `exclude_fields` keeps out; a target may have changed upper and lower case in its name.
#}
with loaded as (
    select
        {% for type, names in {
            'timestamp': ['EventStart', 'PageStart', 'SessionStart', '_sdc_batched_at'],
            'bigint': [
                'EventFirstInputDelay', 'EventModDead', 'EventModError', 'EventModFrustrated', 'IndvId',
                'LoadEventTime', 'LoadFirstPaintTime', 'LoadLargestPaintTime', 'PageActiveDuration',
                'PageDuration', 'PageId', 'PageMaxScrollDepthPercent', 'SessionId', 'UserId',
            ],
            'double precision': ['EventCumulativeLayoutShift'],
            'varchar': [
                'AppViewName', 'EventDigest', 'EventTargetSelector', 'EventTargetSelectorTok', 'EventTargetText',
                'EventType', 'PageAgent', 'PageBrowser', 'PageBrowserVersion', 'PageDevice', 'PageIp',
                'PageLatLong', 'PageName', 'PageOperatingSystem', 'PagePlatform', 'PageRefererUrl', 'PageUrl',
                'PageUserAgent', 'UserAppKey', 'UserDisplayName', 'UserEmail',
            ],
        }.items() -%}
        {% for name in names -%}
        {{ optional_column(name, type) }} as "{{ name }}",
        {% endfor %}
        {%- endfor %}
        {%- for column, name in var('fullstory_variables').items() %}
        {{ variable(name) }} as "{{ column }}",
        {%- endfor %}
        {{ variables_like('user_') }} as user_properties,
        {{ day_of(optional_column('EventStart', 'timestamp')) }} as day
    from {{ source('fullstory', 'events') }}
)

select
    *,
    -- Bundles may lack the names of pages and the platform.
    coalesce(nullif("PageName", ''), nullif("AppViewName", ''), {{ url_path('"PageUrl"') }}) as page,
    coalesce(
        nullif("PagePlatform", ''),
        case when "PageUrl" <> '' then 'Web' when "PageBrowser" = 'Mobile App' then 'Native Mobile' end
    ) as platform,
    -- Whether an error followed the click. Of several such clicks on one thing, in one page load, the first.
    "EventModError" > 0 and row_number() over (
        partition by
            "UserId", "SessionId", "PageId", day, coalesce("EventTargetText", ''), "EventModError" > 0
        order by "EventStart"
    ) = 1 as is_error_after_click
from loaded
