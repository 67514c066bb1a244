"""The columns of events, by type: a witness that no code is derived from.

FullStory's dictionary of them: developer.fullstory.com/server/v1/segments/export-fields/
"""

INTEGERS = set(
    """
    IndvId UserId SessionId PageId EventDuration EventSecondaryDuration EventPageOffset
    EventSessionOffset EventModFrustrated EventModDead EventModError EventModSuspicious
    EventFirstInputDelay PageDuration PageActiveDuration PageScreenWidth PageScreenHeight
    PageViewportWidth PageViewportHeight PageNumEvents PageNumDerivedEvents PageNumInfos
    PageNumWarnings PageNumErrors PageClusterId PageMaxScrollDepthPercent LoadDomContentTime
    LoadEventTime LoadFirstPaintTime LoadLargestPaintTime ReqStatus
    """.split()
)
NUMBERS = {"EventCumulativeLayoutShift"}
DATE_TIMES = {"UserCreated", "SessionStart", "EventStart", "PageStart"}
STRINGS = set(
    """
    UserAppKey UserDisplayName UserEmail EventType EventSubType EventCustomName EventTargetText
    EventTargetSelector EventVarErrorKind EventVarFields EventWebSourceFileUrl
    EventMobileSourceFile PageName PageUrl PageRefererUrl PageIp PageLatLong PageUserAgent
    PageBrowser PageBrowserVersion PageDevice PagePlatform PageOperatingSystem ReqUrl ReqMethod
    AppName AppPackageName AppDeviceModel AppDeviceVendor AppVersion AppOsVersion AppViewName
    """.split()
)
# github.com/fullstorydev/hauser, warehouse/schema.go
LEGACY = {"PageAgent", "EventTargetSelectorTok"}
EXPORT_FIELDS = INTEGERS | NUMBERS | DATE_TIMES | STRINGS | LEGACY
