WITH sessions AS (
    SELECT "UserId", "SessionId", max("CustomVars" ->> 'user_plan_str') AS plan,
           count(*) FILTER (WHERE "EventModFrustrated" = 1) AS rage_clicks,
           count(*) FILTER (WHERE "EventModDead" > 0) AS dead_clicks,
           count(*) FILTER (WHERE "EventType" = 'exception') AS exceptions
    FROM events
    GROUP BY "UserId", "SessionId"
)
SELECT coalesce(plan, '(not known)') AS plan, count(*) AS sessions,
       count(*) FILTER (WHERE rage_clicks > 0) AS with_rage_clicks,
       sum(rage_clicks) AS rage_clicks, sum(dead_clicks) AS dead_clicks,
       sum(exceptions) AS exceptions
FROM sessions
GROUP BY 1
ORDER BY rage_clicks DESC, sessions;
