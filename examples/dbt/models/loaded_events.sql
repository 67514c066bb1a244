{#
    The columns that the models use, in the tap's spelling. One that the table lacks is null, such as one that
    `exclude_fields` keeps out; a target may have changed upper and lower case in its name.
#}
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
        'json' if target.type == 'duckdb' else 'jsonb': ['CustomVars'],
    }.items() -%}
    {% set outer = loop -%}
    {% for name in names -%}
    {{ optional_column(name, type) }} as "{{ name }}"{{ ',' if not (outer.last and loop.last) }}
    {% endfor %}
    {%- endfor %}
from {{ source('fullstory', 'events') }}
