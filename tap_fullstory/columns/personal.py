"""Which properties can hold personal data: what the catalog says of each.

`yes` names a person or a place of theirs, `an id` can be traced back to one, `can` holds text or
addresses, and so whatever an application puts there.
"""

from __future__ import annotations

from tap_fullstory.columns.custom import is_custom
from tap_fullstory.streams import Stream

PERSONAL_DATA = "tap-fullstory.personal-data"  # a metadata key of this tap's own

_OF_EVENTS = {
    "yes": "UserAppKey UserDisplayName UserEmail PageIp PageLatLong",
    "an id": "IndvId UserId SessionId PageId",
    "can": """
        EventTargetText EventTargetSelector EventTargetSelectorTok EventVarFields PageUrl PageName
        PageRefererUrl PageUserAgent PageAgent ReqUrl AppViewName EventCustomName CustomVars""",
}
_OF_STREAMS = {
    "events": _OF_EVENTS,
    "individuals": {
        "yes": "Uid DisplayName Email LastIp LastLatLong",
        "an id": "IndvId",
        "can": "LastPage CustomVars",
    },
    "users": {
        "yes": "uid display_name email",
        "an id": "id app_url",
        "can": "properties schema type_conflicts extra",
    },
    "sessions": {"yes": "uid", "an id": "id app_url user_id", "can": "extra"},
    "segments": {"yes": "creator", "can": "name extra"},
    "webhook_endpoints": {"can": "url extra"},
    "operations": {"can": "errorDetails details results extra"},
}
# Of settings: who changed them, and what they were changed to.
_OF_OTHERS = {"can": "metadata extra blockedIps sessionTargetingRules"}


def personal_data(stream: Stream, name: str) -> str | None:
    """Return what a property of a stream can hold; None: no personal data."""
    if is_custom(name):
        return "can"
    answers = _OF_STREAMS.get(stream.name, _OF_OTHERS)
    return next((answer for answer, names in answers.items() if name in names.split()), None)
