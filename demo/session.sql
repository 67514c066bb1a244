SELECT round("EventSessionOffset" / 1000.0, 1) AS second, "EventType" AS event,
       coalesce("EventTargetText", "ReqUrl", "EventCustomName") AS what,
       coalesce("PageName", "AppViewName") AS page,
       CASE WHEN "EventModFrustrated" > 0 THEN 'rage click'
            WHEN "EventModDead" > 0 THEN 'dead click'
            WHEN "EventModError" > 0 THEN 'error' END AS trouble
FROM events
WHERE "UserId" = 51900563939080644 AND "SessionId" = 932498466133180184
ORDER BY "EventStart", "EventPageOffset", "EventType";
