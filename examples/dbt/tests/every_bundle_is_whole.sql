-- Each bundle that is written completely has as many rows as it had events: docs/completeness.md explains it. Without the
-- table of bundles, or the column BundleId, there is nothing to compare.
{% set bundles = source('fullstory', 'bundles') %}
{% set bundle_id = optional_column('BundleId', 'varchar') | trim %}
{% if execute and load_relation(bundles) is not none and not bundle_id.startswith('cast(null') %}
select bundles.id, bundles.events - coalesce(bundles.left_out, 0) as expected, count(events.bundle_id) as found
from {{ bundles }} as bundles
left join (select {{ bundle_id }} as bundle_id from {{ source('fullstory', 'events') }}) as events
    on events.bundle_id = bundles.id
group by bundles.id, bundles.events, bundles.left_out
having count(events.bundle_id) <> bundles.events - coalesce(bundles.left_out, 0)
{% else %}
select 1 as id where 1 = 0
{% endif %}
