INT64: int
FLOAT64: int
BOOL: int
TIMESTAMP: int
STRING: int
JSON_TEXT: int

class Builder:
    def __new__(cls, columns: tuple[tuple[str, bytes, int], ...]) -> Builder: ...
    def append(self, lines: bytes) -> int: ...
    def finish(self) -> tuple[object, object]: ...
