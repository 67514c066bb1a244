{#
    What each version of the settings limits, compared with the version before it. A history that is not
    loaded has no rows.
#}
{%- set json = json_type() -%}
{%- set lists = {'blockedIps': 'IP address blocked', 'blockedUas': 'user agent blocked', 'blockedAppIds': 'app blocked'} -%}
{%- set switches = {
    'enabled': 'recording', 'consoleWatcher': 'recording of the console', 'ajaxWatcher': 'recording of requests',
    'resourceUploading': 'upload of resources', 'clientSideRageClick': 'rage clicks by the client',
} -%}
with blocking as (
    {{ versions('block_rules_history', {'blockedIps': json, 'blockedUas': json, 'blockedAppIds': json}) }}
),

domains as (
    {{ versions('domain_settings_history', {'domains': json, 'onlyRecordKnownDomains': 'boolean'}, platforms=true) }}
),

privacy as (
    {{ versions('privacy_settings_history', {'elementBlocks': json, 'discardIpAddresses': 'boolean'}) }}
),

features as (
    {{ versions('recording_features_history', {
        'enabled': 'boolean', 'consoleWatcher': 'boolean', 'ajaxWatcher': 'boolean', 'resourceUploading': 'boolean',
        'clientSideRageClick': 'boolean', 'recordingShutoff': 'boolean',
    }, platforms=true) }}
),

places as (
    {{ versions('geo_settings_history', {'recordGeoMode': 'varchar', 'recordGeoZones': json}) }}
),

versions as (
    {% for table in ['blocking', 'domains', 'privacy', 'features', 'places'] -%}
    select
        '{{ table }}' as setting, platform, changed_at, changed_by,
        lag(changed_at) over (partition by platform order by changed_at) as before
    from {{ table }}
    {{ 'union all' if not loop.last }}
    {% endfor %}
),

-- What is limited in each version.
limits as (
    {% for column, what in lists.items() -%}
    select 'blocking' as setting, platform, changed_at, '{{ what }}' as what, {{ json_text('element') }} as value
    from blocking, {{ elements('"' ~ column ~ '"') }} as listed (element)
    union all
    {% endfor -%}
    select 'domains', platform, changed_at, 'domain off', {{ json_text("element -> 'domain'") }}
    from domains, {{ elements('domains."domains"') }} as listed (element)
    where {{ json_text("element -> 'disabled'") }} = 'true'
    union all
    select 'domains', platform, changed_at, 'only known domains recorded', ''
    from domains
    where "onlyRecordKnownDomains"
    union all
    select
        'privacy', platform, changed_at,
        case {{ json_text("element -> 'type'") }} when 'BLOCK_MASK' then 'element masked' else 'element excluded' end,
        {{ json_text("element -> 'selector'") }}
    from privacy, {{ elements('"elementBlocks"') }} as listed (element)
    where
        {{ json_text("element -> 'type'") }} in ('BLOCK_EXCLUDE', 'BLOCK_MASK')
        and coalesce({{ json_text("element -> 'scope'") }}, '') <> 'NO_SESSIONS'
    union all
    select 'privacy', platform, changed_at, 'IP addresses discarded', ''
    from privacy
    where "discardIpAddresses"
    union all
    {% for column, what in switches.items() -%}
    select 'features', platform, changed_at, '{{ what }} off', ''
    from features
    where not "{{ column }}"
    union all
    {% endfor -%}
    select 'features', platform, changed_at, 'recording shut off by FullStory', ''
    from features
    where "recordingShutoff"
    union all
    select
        'places', platform, changed_at,
        case "recordGeoMode" when 'GEO_BLOCK_LIST' then 'place blocked' else 'only place recorded' end,
        {{ json_text('element') }}
    from places, {{ elements('"recordGeoZones"') }} as listed (element)
    where "recordGeoMode" in ('GEO_BLOCK_LIST', 'GEO_ALLOW_LIST')
)

{% for change, wanted, other in [('begins', 'changed_at', 'before'), ('ends', 'before', 'changed_at')] -%}
select
    versions.changed_at,
    {{ day_of('versions.changed_at') }} as day,
    versions.setting,
    versions.platform,
    limits.what,
    limits.value,
    '{{ change }}' as change,
    versions.changed_by
from versions
join limits
    on limits.setting = versions.setting
    and limits.platform = versions.platform
    and limits.changed_at = versions.{{ wanted }}
where not exists (
    select 1
    from limits as others
    where
        others.setting = versions.setting
        and others.platform = versions.platform
        and others.changed_at = versions.{{ other }}
        and others.what = limits.what
        and others.value = limits.value
)
{{ 'union' if not loop.last }}
{% endfor %}
