-- Make the descriptions of the catalog the comments of the columns that target-postgres has made:
--
--     psql postgresql://user:password@localhost:5432/database -v schema=fullstory -f comments.sql
--
-- It starts tap-fullstory, which prints the catalog. Run it again when columns have been added. A comment
-- that is there stays.

\set ON_ERROR_STOP on
\set catalog `tap-fullstory --discover`

WITH described AS (
    SELECT stream ->> 'tap_stream_id' AS table_name, property.key AS column_name,
           property.value ->> 'description' AS description
    FROM json_array_elements(CAST(:'catalog' AS json) -> 'streams') AS stream,
         json_each(stream -> 'schema' -> 'properties') AS property
)
SELECT format('COMMENT ON COLUMN %I.%I.%I IS %L', table_schema, table_name, column_name, description)
FROM information_schema.columns
JOIN described USING (table_name, column_name)
WHERE table_schema = :'schema'
  AND description IS NOT NULL
  AND col_description(CAST(format('%I.%I', table_schema, table_name) AS regclass), ordinal_position) IS NULL
\gexec
