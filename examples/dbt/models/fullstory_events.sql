{#
    The rows in the shape of the table that Anywhere: Warehouse delivers, as FullStory's own package
    describes it (github.com/fullstorydev/dbt_fullstory, models/events.sql). README.md has what no
    export has, and which names are inferred.
#}
select
    "EventDigest" as event_id,
    "UserId" as device_id,
    "SessionId" as session_id,
    "PageId" as view_id,
    "EventStart" as event_time,
    "_sdc_batched_at" as processed_time,
    "_sdc_batched_at" as updated_time,
    case "EventType"
        when 'thrash' then 'mouse_thrash'
        when 'seen' then 'element_seen'
        when 'abandon' then 'form_abandon'
        when 'backgrounded' then 'background'
        when 'crashed' then 'crash'
        when 'uservar' then 'identify'
        else "EventType"
    end as event_type,
    case platform when 'Web' then 'web' when 'Native Mobile' then 'mobile_app' end as source_type,
    {{ json_object({
        'user_agent': json_object({
            'raw_user_agent': 'coalesce("PageUserAgent", "PageAgent")',
            'device': '"PageDevice"',
            'operating_system': '"PageOperatingSystem"',
            'browser': '"PageBrowser"',
            'browser_version': '"PageBrowserVersion"',
        }),
        'location': json_object({
            'ip_address': "nullif(\"PageIp\", '')",
            'lat_long': "nullif(\"PageLatLong\", '')",
        }),
        'url': url_parts('"PageUrl"'),
        'initial_referrer': url_parts('"PageRefererUrl"'),
    }) }} as source_properties,
    {{ json_object({
        'target': json_object({
            'text': '"EventTargetText"',
            'raw_selector': 'coalesce("EventTargetSelector", "EventTargetSelectorTok")',
        }),
        'user_id': "nullif(\"UserAppKey\", '')",
        'user_email': "nullif(\"UserEmail\", '')",
        'user_display_name': "nullif(\"UserDisplayName\", '')",
        'user_properties': 'user_properties',
    }) }} as event_properties
from {{ ref('loaded_events') }}
