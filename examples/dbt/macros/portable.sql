{# What DuckDB and PostgreSQL spell differently. #}

{% macro json_type() -%} {{ adapter.dispatch('json_type')() }} {%- endmacro %}
{% macro default__json_type() -%} json {%- endmacro %}
{% macro postgres__json_type() -%} jsonb {%- endmacro %}

{% macro json_object(pairs) -%}
    {{ adapter.dispatch('json_object')(pairs) }}
{%- endmacro %}

{% macro default__json_object(pairs) -%}
    json_object({% for name, value in pairs.items() %}'{{ name }}', {{ value }}{{ ', ' if not loop.last }}{% endfor %})
{%- endmacro %}

{% macro postgres__json_object(pairs) -%}
    jsonb_build_object({% for name, value in pairs.items() %}'{{ name }}', {{ value }}{{ ', ' if not loop.last }}{% endfor %})
{%- endmacro %}

{# The members of a JSON object whose names begin with `prefix`, as an object. #}
{% macro members_like(json, prefix) -%}
    {{ adapter.dispatch('members_like')(json, prefix) }}
{%- endmacro %}

{% macro default__members_like(json, prefix) -%}
    to_json(map_from_entries([
        (name, {{ json }} -> name) for name in json_keys({{ json }}) if starts_with(name, '{{ prefix }}')
    ]))
{%- endmacro %}

{% macro postgres__members_like(json, prefix) -%}
    (select jsonb_object_agg(key, value) from jsonb_each({{ json }}) where starts_with(key, '{{ prefix }}'))
{%- endmacro %}

{# Two JSON objects as one, without the nulls of the first. #}
{% macro merged(first, second) -%}
    {{ adapter.dispatch('merged')(first, second) }}
{%- endmacro %}

{% macro default__merged(first, second) -%}
    json_merge_patch(json_merge_patch('{}', {{ first }}), coalesce({{ second }}, '{}'))
{%- endmacro %}

{% macro postgres__merged(first, second) -%}
    (jsonb_strip_nulls({{ first }}) || coalesce({{ second }}, '{}'))
{%- endmacro %}

{# A text as the type of a variable's suffix; null if it is not one. #}
{% macro typed(text, suffix) -%}
    {{ adapter.dispatch('typed')(text, suffix) }}
{%- endmacro %}

{% macro default__typed(text, suffix) -%}
    try_cast({{ text }} as {{ variable_type(suffix) }})
{%- endmacro %}

{% macro postgres__typed(text, suffix) -%}
    {%- set patterns = {
        'int': '^-?[0-9]{1,18}$',
        'real': '^-?[0-9]+([.][0-9]+)?([eE][+-]?[0-9]{1,2})?$',
        'bool': '^(true|false)$',
        'date': '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?Z$',
    } -%}
    {%- if suffix in patterns -%}
        case when {{ text }} ~ '{{ patterns[suffix] }}' then cast({{ text }} as {{ variable_type(suffix) }}) end
    {%- else -%}
        cast({{ text }} as {{ variable_type(suffix) }})
    {%- endif -%}
{%- endmacro %}

{# The elements of a JSON array, or of an array of the database, as rows of a table function. #}
{% macro elements(column) -%}
    {{ adapter.dispatch('elements')(column) }}
{%- endmacro %}

{% macro default__elements(column) -%}
    unnest(cast(to_json({{ column }}) as json[]))
{%- endmacro %}

{% macro postgres__elements(column) -%}
    jsonb_array_elements(case when jsonb_typeof(to_jsonb({{ column }})) = 'array' then to_jsonb({{ column }}) end)
{%- endmacro %}

{# A JSON text as a text, without its quotes. #}
{% macro json_text(json) -%}
    {{ adapter.dispatch('json_text')(json) }}
{%- endmacro %}

{% macro default__json_text(json) -%} ({{ json }} ->> '$') {%- endmacro %}
{% macro postgres__json_text(json) -%} ({{ json }} #>> '{}') {%- endmacro %}

{# Each day from the first to the last one, as rows of a table function. #}
{% macro days_between(first, last) -%}
    {{ adapter.dispatch('days_between')(first, last) }}
{%- endmacro %}

{% macro default__days_between(first, last) -%}
    unnest(generate_series({{ first }}, {{ last }}, interval 1 day))
{%- endmacro %}

{% macro postgres__days_between(first, last) -%}
    generate_series({{ first }}, {{ last }}, interval '1 day')
{%- endmacro %}

{# The first group of a regular expression in a text; '' or null if it does not match. #}
{% macro first_group(column, pattern) -%}
    {{ adapter.dispatch('first_group')(column, pattern) }}
{%- endmacro %}

{% macro default__first_group(column, pattern) -%}
    regexp_extract({{ column }}, '{{ pattern }}', 1)
{%- endmacro %}

{% macro postgres__first_group(column, pattern) -%}
    substring({{ column }} from '{{ pattern }}')
{%- endmacro %}

{% macro seconds_between(start, stop) -%}
    cast(extract(epoch from ({{ stop }} - {{ start }})) as numeric(18, 3))
{%- endmacro %}

{# The day of a timestamp in UTC, in the time zone of the variable fullstory_time_zone. #}
{% macro day_of(timestamp) -%}
    {%- set zone = var('fullstory_time_zone') -%}
    {%- if zone == 'UTC' -%}
        cast({{ timestamp }} as date)
    {%- else -%}
        cast({{ timestamp }} at time zone 'UTC' at time zone '{{ zone }}' as date)
    {%- endif -%}
{%- endmacro %}

{# The path of an address, such as /checkout. #}
{% macro url_path(column) -%}
    nullif({{ first_group(column, '^[a-z]+://[^/?#]+(/[^?#]*)') }}, '')
{%- endmacro %}

{# The parts of an address, as FullStory's raw table has them. #}
{% macro url_parts(column) -%}
    {{ json_object({
        'full_url': "nullif(" ~ column ~ ", '')",
        'host': "nullif(" ~ first_group(column, '^[a-z]+://([^/?#]+)') ~ ", '')",
        'path': url_path(column),
        'query': "nullif(" ~ first_group(column, '^[^?#]*([?][^#]*)') ~ ", '')",
        'hash_path': "nullif(" ~ first_group(column, '^[^#]*(#[^?]*)') ~ ", '')",
        'hash_query': "nullif(" ~ first_group(column, '^[^#]*#[^?]*([?].*)') ~ ", '')",
    }) }}
{%- endmacro %}
