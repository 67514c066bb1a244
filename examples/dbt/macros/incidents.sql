{# What went wrong, each incident counted once: a series of rage clicks, and an error after clicks on one thing in one page load. #}
{% macro incidents() -%}
    count(*) filter (where "EventModFrustrated" = 1) as rage_clicks,
    count(*) filter (where "EventModDead" > 0) as dead_clicks,
    count(*) filter (where is_error_after_click) as errors_after_clicks,
    count(*) filter (where "EventType" = 'exception') as exceptions
{%- endmacro %}
