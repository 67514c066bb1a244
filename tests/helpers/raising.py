"""Makes a tap that runs as a process fail at a place of one's choice, by a sitecustomize module."""

from __future__ import annotations

from pathlib import Path

_SITECUSTOMIZE = """
import errno, importlib, os

place, when, calls, kind = os.environ["RAISE_AT"].split("|")
module, _, path = place.partition(":")
owner = importlib.import_module(module)
*parents, name = path.split(".")
for parent in parents:
    owner = getattr(owner, parent)
original = getattr(owner, name)
left = int(calls)


def fail():
    if kind == "MemoryError":
        raise MemoryError
    if kind == "thread":
        raise RuntimeError("can't start new thread")
    if kind == "ImportError":
        raise ImportError("libc.so: failed to map segment from shared object")
    if kind == "SystemError":
        raise SystemError("initialization of _ssl raised unreported exception")
    raise OSError(getattr(errno, kind), os.strerror(getattr(errno, kind)))


def raising(*args, **kwargs):
    global left
    left -= 1
    if left == 0 and when == "before":
        fail()
    result = original(*args, **kwargs)
    if left == 0 and when == "after":
        fail()
    return result


setattr(owner, name, raising)
"""


def raising_at(
    folder: Path, place: str, kind: str = "MemoryError", call: int = 1, when: str = "before"
) -> dict[str, str]:
    """Return the environment in which the call of `place` (module:name) with this number raises.

    `kind` is MemoryError, thread, ImportError, SystemError or the name of an errno; `when` is
    before or after the call.
    """
    (folder / "sitecustomize.py").write_text(_SITECUSTOMIZE)
    return {"PYTHONPATH": str(folder), "RAISE_AT": f"{place}|{when}|{call}|{kind}"}
