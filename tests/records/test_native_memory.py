"""Memory of the C extension: allocations that fail, and what stays allocated."""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_native = pytest.importorskip("tap_fullstory.records._native", reason="it has not been compiled")

SEED = bytes(_native.SEED_BYTES)
DECLARED = {"n": (_native.KEPT, _native.INTEGER, 0), "gone": (_native.DROPPED, _native.ANYTHING, 0)}
# Everything that allocates: new keys, text beyond the buffers, the fallback, and many counts.
CHUNK = b",".join(
    [
        b'{"n":1,"evt_a":"%b"}' % (b"x" * 20_000),
        b'{"n":1.0,"gone":[1]}',
        *[b'{"evt_%d":[%d]}' % (n, n) for n in range(300)],
    ]
)


def scanner(as_text: bool = False) -> Any:
    return _native.Scanner(dict(DECLARED), True, as_text, SEED)


def fallback(event: bytes) -> bytes:
    return b'{"n":1}'


def encode(made: Any, chunk: bytes = CHUNK, call: Callable[[bytes], Any] = fallback) -> Any:
    return made.encode(chunk, b">", b"\n", call, sys.maxsize)


def refuse(event: bytes) -> None:
    return None


def fail(event: bytes) -> bytes:
    raise ValueError


# --- allocations that fail ---


def fail_each_allocation() -> None:
    """Let the n-th allocation of each operation fail, for n from 0 until it succeeds.

    Runs in a process of its own, since it may end the interpreter. Each failure has to be a
    MemoryError, after which a scanner that was in use has to work as before.
    """
    import _testcapi  # type: ignore[import-not-found]

    used = scanner()
    expected = encode(scanner())
    operations: list[Callable[[], Any]] = [
        scanner,
        lambda: encode(scanner()),
        lambda: encode(scanner(as_text=True)),
        lambda: encode(used),
        lambda: _native.object_end(CHUNK, 0),
    ]
    for operation in operations:
        failures = successes = 0
        while successes < 3:  # Python does without a few of its allocations
            _testcapi.set_nomemory(failures + successes, failures + successes + 1)
            try:
                operation()
                successes += 1
            except MemoryError:
                failures, successes = failures + successes + 1, 0
            finally:
                _testcapi.remove_mem_hooks()
            assert encode(used) == expected
            assert failures < 5000
        sys.stdout.write(f"{failures}\n")


def test_every_allocation_may_fail() -> None:
    pytest.importorskip("_testcapi", reason="this Python has no way to make allocations fail")
    code = "import test_native_memory as tests; tests.fail_each_allocation()"
    here = Path(__file__).parent
    # Coverage's own allocations would fail, too, and it crashes then.
    env = {name: os.environ[name] for name in os.environ if not name.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=here, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    created, first, as_text, again, _ = map(int, done.stdout.split())
    assert created > 5
    assert first > created + 2 * 300  # each key has a struct and a name
    assert as_text > created + 2 * 300
    assert again > 300  # of the counts


# --- what stays ---

OPERATIONS: dict[str, Callable[[], Any]] = {
    "a scanner": scanner,
    "a scanner's first chunk": lambda: encode(scanner()),
    "as text": lambda: encode(scanner(as_text=True)),
    "a chunk that is not valid": lambda: encode(scanner(), CHUNK + b",{"),
    "the fallback refuses": lambda: encode(scanner(), call=refuse),
    "the fallback raises": lambda: encode(scanner(), call=fail),
    "the fallback returns text": lambda: encode(scanner(), call=str),
    "the fallback cannot be called": lambda: encode(scanner(), call=None),  # type: ignore[arg-type]
    "arguments of other types": lambda: scanner().encode("text", b"", b"", fallback, 1),
    "no events": lambda: scanner().encode(b"{}", b"", b"", fallback, 0),
    "no such column type": lambda: _native.Scanner({"n": ("0", 0, 0)}, True, True, SEED),
    "no name": lambda: _native.Scanner(dict([*DECLARED.items(), (5, (0, 0, 0))]), True, True, SEED),
    "a lone surrogate": lambda: _native.Scanner({"\ud800": (0, 0, 0)}, True, True, SEED),
    "another seed": lambda: _native.Scanner(DECLARED, True, True, b"short"),
    "an object's end": lambda: _native.object_end(CHUNK, 0),
    "no object": lambda: _native.object_end(CHUNK, 1),
    "too deep": lambda: _native.object_end(b"[" * 1000, 0),
}


def allocated() -> int:
    """Return how many bytes the calls of this file hold, and no other thread's: tracemalloc counts
    those of the whole process.
    """
    snapshot = tracemalloc.take_snapshot()
    here = snapshot.filter_traces([tracemalloc.Filter(True, __file__)])
    return sum(trace.size for trace in here.traces)


def attempt(operation: Callable[[], Any]) -> None:
    with contextlib.suppress(ValueError, TypeError):
        operation()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_nothing_stays_allocated(operation: str) -> None:
    times = 200
    run = OPERATIONS[operation]
    arguments = [CHUNK, SEED, fallback, refuse, fail, DECLARED, *DECLARED.values(), _native.Scanner]
    gc.freeze()  # what was there before need not be looked at
    tracemalloc.start()
    try:
        for _ in range(20):
            attempt(run)
        gc.collect()
        references = [sys.getrefcount(argument) for argument in arguments]
        before = allocated()
        for _ in range(times):
            attempt(run)
        gc.collect()
        after = allocated()
    finally:
        tracemalloc.stop()
        gc.unfreeze()
    assert after - before < 8 * times  # less than one small object each time
    assert [sys.getrefcount(argument) for argument in arguments] == references


def test_a_scanner_that_is_used_again_and_again_does_not_grow() -> None:
    made = scanner()
    large = b'{"evt_a":"%b"},{"n":1.0},{"evt_b":{}}' % (b"x" * 3_000_000)
    tracemalloc.start()
    try:
        for chunk in (CHUNK, large, CHUNK):
            encode(made, chunk)
        before = allocated()
        for _ in range(20):
            encode(made, large)
            encode(made)
        after = allocated()
    finally:
        tracemalloc.stop()
    assert after - before < 1000
    assert before < 2_000_000  # the buffers of the large chunk were given back
