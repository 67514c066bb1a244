"""A local imitation of FullStory: a server with its APIs over generated events.

For trying the tap, or a pipeline behind it, without a FullStory account, and for tests. The tap
itself never imports it. From a shell: `python -m tap_fullstory.sandbox --help`.
"""

from .bundles import COMPRESSIONS, LAYOUTS, Bundle, generated_bundles
from .events import GeneratedEvents, generate_events
from .exported import as_segment_export
from .faults import Fault, parse_fault
from .people import EXAMPLE_INDV_ID, EXAMPLE_SESSION_ID, EXAMPLE_USER_ID
from .server import DEFAULT_KEY, EXPORT_APIS, Sandbox
from .wire import Request

__all__ = [
    "COMPRESSIONS",
    "DEFAULT_KEY",
    "EXAMPLE_INDV_ID",
    "EXAMPLE_SESSION_ID",
    "EXAMPLE_USER_ID",
    "EXPORT_APIS",
    "LAYOUTS",
    "Bundle",
    "Fault",
    "GeneratedEvents",
    "Request",
    "Sandbox",
    "as_segment_export",
    "generate_events",
    "generated_bundles",
    "parse_fault",
]
