{# Reading the histories of settings. Each has one row for each version, with lists as JSON. #}

{# The versions of a history; no rows where it is not loaded. `platforms`: it has versions for each. #}
{% macro versions(table, columns, platforms=false) -%}
    {%- set there = columns_of(table) -%}
    select
        {{ optional_column('platform', 'varchar', table) if platforms else "'all'" }} as platform,
        {{ optional_column('lastUpdated', 'timestamp', table) }} as changed_at,
        {{ json_text(as_json(optional_column('metadata', json_type(), table)) ~ " -> 'lastUpdatedBy'") }}
            as changed_by
        {%- for name, type in columns.items() %},
        {{ optional_column(name, type, table) }} as "{{ name }}"
        {%- endfor %}
    {% if there -%}
    from {{ source('fullstory', table) }}
    {%- else -%}
    where false
    {%- endif -%}
{%- endmacro %}

{% macro as_json(value) -%} {{ adapter.dispatch('as_json')(value) }} {%- endmacro %}
{% macro default__as_json(value) -%} to_json({{ value }}) {%- endmacro %}
{% macro postgres__as_json(value) -%} to_jsonb({{ value }}) {%- endmacro %}
