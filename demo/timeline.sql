-- A session is told by UserId and SessionId together. A form field's name is in its selector.
WITH session AS (
    SELECT *, regexp_extract(EventTargetSelector, 'input.*aria-label="([^"]*)"', 1) AS Field
    FROM events
    WHERE UserId = 6606828898126528473 AND SessionId = 5320771273179136001
)
SELECT strftime(EventStart, '%Y-%m-%d %H:%M:%S.%g'),
       CASE WHEN EventType = 'change' THEN 'change of ' || Field || ' to ' || EventTargetText
            WHEN Field <> '' THEN EventType || ' in ' || Field
            ELSE EventType || ' on ' || EventTargetText END,
       PageUrl
FROM session
ORDER BY EventStart
