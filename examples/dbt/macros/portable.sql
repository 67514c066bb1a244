{# What DuckDB and PostgreSQL spell differently. #}

{% macro json_object(pairs) -%}
    {{ adapter.dispatch('json_object')(pairs) }}
{%- endmacro %}

{% macro default__json_object(pairs) -%}
    json_object({% for name, value in pairs.items() %}'{{ name }}', {{ value }}{{ ', ' if not loop.last }}{% endfor %})
{%- endmacro %}

{% macro postgres__json_object(pairs) -%}
    jsonb_build_object({% for name, value in pairs.items() %}'{{ name }}', {{ value }}{{ ', ' if not loop.last }}{% endfor %})
{%- endmacro %}

{# The members of a JSON column whose names begin with `prefix`, as an object. #}
{% macro members_like(column, prefix) -%}
    {{ adapter.dispatch('members_like')(column, prefix) }}
{%- endmacro %}

{% macro default__members_like(column, prefix) -%}
    to_json(map_from_entries([
        (name, {{ column }} -> name) for name in json_keys({{ column }}) if starts_with(name, '{{ prefix }}')
    ]))
{%- endmacro %}

{% macro postgres__members_like(column, prefix) -%}
    (
        select jsonb_object_agg(key, value)
        -- target-postgres stores an absent object as JSON null, which has no members
        from jsonb_each(case when jsonb_typeof({{ column }}) = 'object' then {{ column }} end)
        where starts_with(key, '{{ prefix }}')
    )
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

{# A column of the source, whatever the case of its name there, or null of a type where it has none. #}
{% macro optional_column(name, type) -%}
    {%- if execute -%}
        {%- set found = adapter.get_columns_in_relation(source('fullstory', 'events')) -%}
        {%- set names = found | map(attribute='name') | list -%}
        {%- set same = names | select('equalto', name) | list -%}
        {%- set alike = names | map('lower') | list -%}
        {%- if same -%}
            "{{ name }}"
        {%- elif name | lower in alike -%}
            "{{ names[alike.index(name | lower)] }}"
        {%- else -%}
            cast(null as {{ type }})
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}

{# The parts of an address, as FullStory's raw table has them. #}
{% macro url_parts(column) -%}
    {{ json_object({
        'full_url': "nullif(" ~ column ~ ", '')",
        'host': "nullif(" ~ first_group(column, '^[a-z]+://([^/?#]+)') ~ ", '')",
        'path': "nullif(" ~ first_group(column, '^[a-z]+://[^/?#]+(/[^?#]*)') ~ ", '')",
        'query': "nullif(" ~ first_group(column, '^[^?#]*([?][^#]*)') ~ ", '')",
        'hash_path': "nullif(" ~ first_group(column, '^[^#]*(#[^?]*)') ~ ", '')",
        'hash_query': "nullif(" ~ first_group(column, '^[^#]*#[^?]*([?].*)') ~ ", '')",
    }) }}
{%- endmacro %}
