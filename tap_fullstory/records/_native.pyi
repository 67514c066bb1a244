from collections.abc import Callable

KEPT: int
DROPPED: int
UNDECLARED: int
HASHED: int
UNDECLARED_HASHED: int

STRING: int
NUMBER: int
INTEGER: int
BOOLEAN: int
NULL: int
ARRAY: int
OBJECT: int
DATE_TIME: int
ITEMS: int
DECIMAL: int
BOUNDED: int
ANYTHING: int

MAX_DEPTH: int
MAX_REGISTERED_KEYS: int
MAX_KEY_BYTES: int
MAX_DATE_TIME_BYTES: int
SEED_BYTES: int
SLICE_BYTES: int

class Scanner:
    def __init__(
        self,
        declared: dict[str, tuple[int, int, int]],
        custom_vars: bool,
        as_text: bool,
        seed: bytes,
        role_of: Callable[[str], int] | None = None,
        hash_value: Callable[[bytes], bytes] | None = None,
        event_types: frozenset[bytes] | None = None,
        leaves_out: bool = False,
    ) -> None: ...
    def encode(
        self,
        chunk: bytes,
        prefix: bytes,
        suffix: bytes,
        fallback: Callable[[bytes], bytes | None],
        max_events: int,
    ) -> tuple[int, int, bytes, dict[str, int], int] | None: ...

def object_end(text: bytes, start: int) -> int: ...
