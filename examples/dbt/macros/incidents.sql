{# What went wrong, each incident counted once. A series of rage clicks is one, and so is the error after them. #}
{% macro incidents() -%}
    count(*) filter (where "EventModFrustrated" = 1) as rage_clicks,
    count(*) filter (where "EventModDead" > 0) as dead_clicks,
    count(*) filter (where is_error_after_click) as errors_after_clicks,
    count(*) filter (where "EventType" = 'exception') as exceptions
{%- endmacro %}
