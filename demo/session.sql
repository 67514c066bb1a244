SELECT round(CAST(extract(epoch FROM "EventStart" - min("EventStart") OVER ()) AS numeric), 1) AS second,
       "EventType" AS event, coalesce("EventTargetText", "ReqUrl", "EventCustomName") AS what,
       coalesce("PageName", "AppViewName",
                regexp_replace(split_part("PageUrl", '?', 1), '^https?://[^/]+', '')) AS page,
       CASE WHEN "EventModFrustrated" > 0 THEN 'rage click'
            WHEN "EventModDead" > 0 THEN 'dead click'
            WHEN "EventModError" > 0 THEN 'error' END AS trouble
FROM events
WHERE "UserId" = 787277876927932950 AND "SessionId" = 3154260937668305639
ORDER BY "EventStart", "EventPageOffset", "EventType";
