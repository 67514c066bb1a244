from collections.abc import Callable

class Scanner:
    def __init__(
        self, known: dict[str, tuple[int, int, int]], custom_vars: bool, as_text: bool
    ) -> None: ...
    def lines(
        self, run: bytes, head: bytes, tail: bytes, plain: Callable[[bytes], bytes | None]
    ) -> tuple[int, bytes, dict[str, int]] | None: ...
