{# What the tables of the source have: columns that may be missing, and variables that may be anywhere. #}

{# The columns of a table of the source by name; none if there is no such table. #}
{% macro columns_of(table) %}
    {%- set names = [] -%}
    {%- if execute -%}
        {%- set found = load_relation(source('fullstory', table)) -%}
        {%- if found is not none -%}
            {%- set names = adapter.get_columns_in_relation(found) | map(attribute='name') | list -%}
        {%- endif -%}
    {%- endif -%}
    {{ return(names) }}
{% endmacro %}

{# The name of a column as the table spells it, whatever the case of its letters; none if it has none. #}
{% macro spelling(name, names) %}
    {%- set alike = names | map('lower') | list -%}
    {%- if name in names -%}
        {{ return(name) }}
    {%- elif name | lower in alike -%}
        {{ return(names[alike.index(name | lower)]) }}
    {%- endif -%}
    {{ return(none) }}
{% endmacro %}

{# A column of a table, or null of a type where the table has none. #}
{% macro optional_column(name, type, table='events') -%}
    {%- set found = spelling(name, columns_of(table)) -%}
    {%- if found -%} "{{ found }}" {%- else -%} cast(null as {{ type }}) {%- endif -%}
{%- endmacro %}

{# CustomVars, and nothing where the target stored an absent object as JSON null. #}
{% macro custom_vars() -%}
    {%- set column = optional_column('CustomVars', 'varchar') -%}
    cast(nullif(cast({{ column }} as varchar), 'null') as {{ json_type() }})
{%- endmacro %}

{#
    A custom variable wherever it is: in a column of its own, in CustomVars, or, where it became a column
    later, in one of them by row. Its suffix says the type; a value of another type is null.
#}
{% macro variable(name) -%}
    {%- set suffix = name.split('_') | last -%}
    {%- set column = spelling(name, columns_of('events')) -%}
    {%- set elsewhere = typed(custom_vars() ~ " ->> '" ~ name ~ "'", suffix) -%}
    {%- if column -%}
        coalesce(cast("{{ column }}" as {{ variable_type(suffix) }}), {{ elsewhere }})
    {%- else -%}
        {{ elsewhere }}
    {%- endif -%}
{%- endmacro %}

{% macro variable_type(suffix) -%}
    {{ {'int': 'bigint', 'real': 'double precision', 'bool': 'boolean', 'date': 'timestamp', 'str': 'varchar'}
        .get(suffix, json_type()) }}
{%- endmacro %}

{# The variables whose names begin with `prefix`, wherever they are, as one JSON object. #}
{% macro variables_like(prefix) -%}
    {%- set columns = {} -%}
    {%- for name in columns_of('events') if name.lower().startswith(prefix) -%}
        {%- do columns.update({name: '"' ~ name ~ '"'}) -%}
    {%- endfor -%}
    {%- set others = members_like(custom_vars(), prefix) -%}
    {%- if columns -%} {{ merged(json_object(columns), others) }} {%- else -%} {{ others }} {%- endif -%}
{%- endmacro %}
