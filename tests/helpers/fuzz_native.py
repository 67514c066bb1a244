"""Coverage-guided fuzzing of the C extension, for as many seconds as given.

    python tests/helpers/fuzz_native.py [SECONDS [LIBFUZZER-ARGUMENT ...]]

Needs clang with libFuzzer, and Python's headers and library. Where clang is missing, it says so and
exits with 0. It builds the C extension with sanitizers and assertions, and lets libFuzzer look
for inputs that reach more of it, from those in tests/fuzz/corpus. What comes out is compared with
what Python's json makes of the same input.

An input that fails is kept in .venvs/builds/fuzz; to try it again, give its path after the seconds.
To add to the corpus what was found: 0 -merge=1 tests/fuzz/corpus .venvs/builds/found
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import native_builds
import oracle
from encoders import FILTERING, SELECTIONS

from tap_fullstory.records import _native, native

FUZZ = Path(__file__).parent.parent / "fuzz"
FOUND = native_builds.BUILDS / "found"
CHOICES = [*SELECTIONS.values(), *FILTERING.values()]
MAX_INPUT_BYTES = 4096
# Whole surrogate pairs first, then lone surrogates, then any other escape.
_ESCAPE = re.compile(
    rb"\\(?:u[Dd][89ABab][0-9A-Fa-f]{2}\\u[Dd][C-Fc-f][0-9A-Fa-f]{2}|(u[Dd][89A-Fa-f]..)|.)",
    re.DOTALL,
)
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


# --- one input ---


def try_one(data: bytes) -> None:
    """Encode a chunk and look for object ends in it. Raises AssertionError if either is wrong.

    The first byte of `data` chooses the columns and limits, the rest is the chunk.
    """
    if not data:
        return
    choice, chunk = data[0], data[1:]
    check_encode(chunk, choice % len(CHOICES), bool(choice & 64), 2 if choice & 128 else 10**9)
    check_object_end(chunk, choice)


def check_encode(chunk: bytes, number: int, as_text: bool, max_events: int) -> None:
    selection = CHOICES[number]
    by_fallback: list[bytes] = []

    def fallback(event: bytes) -> bytes:
        by_fallback.append(event)
        return b"%d" % len(by_fallback)

    encoder = native.NativeEncoder(
        selection.columns,
        selection.dropped,
        fallback,
        custom_vars=selection.keeps_overflow,
        as_text=as_text,
        rules=selection.rules,
        event_filter=selection.event_filter,
    )
    known = encoder.encode(chunk, b">", b"\n", max_events)
    calls, by_fallback = by_fallback, []
    # Another time, when all keys are registered and their order is known.
    assert encoder.encode(chunk, b">", b"\n", max_events) == known
    assert by_fallback == calls

    contents = oracle.contents_of(b"[" + chunk + b"]")
    good = contents.events[:max_events]
    for index, event in enumerate(good):
        if has_lone_surrogate(event.text) or depth(event.text) > _native.MAX_DEPTH:
            good = good[:index]
            break
    is_valid = len(good) == max_events or (contents.whole and 0 < len(contents.events) == len(good))
    assert (known is not None) == is_valid
    if known is None:
        return
    events, consumed, text, counts, left_out = known
    assert events == len(good)
    assert consumed == good[-1].offset - 1 + len(good[-1].text)
    lines = text.split(b"\n")
    assert lines.pop() == b""
    assert len(lines) == events - left_out
    assert b"\r" not in text
    undeclared: Counter[str] = Counter()
    for event in good:
        if calls and event.text == calls[0] and lines and not lines[0].startswith(b">{"):
            del calls[0], lines[0]
            continue
        if not oracle.is_written(event.value, selection):
            left_out -= 1
            continue
        line = lines.pop(0)
        expected: Any = oracle.record(event.value, selection)
        if as_text and "CustomVars" in expected:
            found = oracle.load(line[1:])
            found["CustomVars"] = oracle.load(found["CustomVars"])
            assert found == expected
        else:
            assert oracle.load(line[1:]) == expected
        declared = selection.columns.keys() | selection.dropped
        kept = oracle.ruled(event.value, selection.rules.patterns)
        undeclared.update(kept.keys() - declared)
    assert (calls, lines, left_out) == ([], [], 0)
    assert counts == undeclared


def has_lone_surrogate(text: bytes) -> bool:
    return any(match[1] for match in _ESCAPE.finditer(text))


def depth(text: bytes) -> int:
    """How many levels the objects and arrays of valid JSON nest."""
    level = deepest = 0
    for byte in _STRING.sub(b"", text):
        level += (byte in b"{[") - (byte in b"}]")
        deepest = max(deepest, level)
    return deepest


def check_object_end(text: bytes, choice: int) -> None:
    start = choice % 4
    if text[start : start + 1] not in (b"{", b"["):
        return
    # A string that has not ended hides what comes after it.
    shown = _STRING.sub(lambda match: b"x" * len(match[0]), text[start:])
    shown = shown[: shown.find(b'"') if b'"' in shown else len(shown)]
    level, end, too_deep = 0, -1, False
    for at, byte in enumerate(shown, start):
        level += (byte in b"{[") - (byte in b"}]")
        too_deep |= level > _native.MAX_DEPTH
        if level == 0 or too_deep:
            end = at + 1
            break
    try:
        assert _native.object_end(text, start) == end
        assert not too_deep
    except ValueError:
        assert too_deep


# --- libFuzzer ---


@cache
def driver_flags() -> list[str]:
    """What it takes to embed this Python."""
    shared = bool(sysconfig.get_config_var("Py_ENABLE_SHARED"))
    folder = sysconfig.get_config_var("LIBDIR" if shared else "LIBPL")
    name = f"-lpython{sysconfig.get_config_var('LDVERSION')}"
    library = [f"-L{folder}", f"-Wl,-rpath,{folder}", name]
    if not shared:  # all of it, for the modules that are loaded later
        library = ["-Wl,--whole-archive", *library, "-Wl,--no-whole-archive"]
    others = f"{sysconfig.get_config_var('LIBS')} {sysconfig.get_config_var('SYSLIBS')} -lm"
    return ["-rdynamic", *library, *others.split()]


def build() -> Path:
    """Return the fuzzer. Raises subprocess.CalledProcessError if it cannot be built."""
    sanitizers = native_builds.SANITIZERS
    folder = native_builds.build("fuzz", "clang", *sanitizers, "-fsanitize=fuzzer-no-link")
    fuzzer = folder / "fuzzer"
    command = [
        "clang",
        "-g",
        "-O1",
        *sanitizers,
        "-fsanitize=fuzzer",
        f'-DPYTHON="{sys.executable}"',
    ]
    command += [*native_builds.HEADERS, str(FUZZ / "driver.c"), *driver_flags()]
    subprocess.run([*command, "-o", str(fuzzer)], check=True)
    return fuzzer


def write_seeds(folder: Path) -> None:
    """Write the values of json_cases.py as inputs, in addition to the corpus."""
    from json_cases import LONE_SURROGATES, NOT_VALID, VALID

    folder.mkdir(parents=True, exist_ok=True)
    for number, value in enumerate([*VALID, *NOT_VALID, *LONE_SURROGATES]):
        (folder / f"value-{number}").write_bytes(b'\0{"x":%b}' % value)
    deep = json.dumps({"a": 1}).replace("1", "[" * 600 + "]" * 600)
    (folder / "deep").write_bytes(b"\0" + deep.encode())


def main() -> int:
    seconds = sys.argv[1] if len(sys.argv) > 1 else "60"
    if shutil.which("clang") is None:
        sys.stdout.write(
            "clang is not installed: no coverage-guided fuzzing. On Debian and Ubuntu, "
            "apt-get install clang libclang-rt-dev\n"
        )
        return 0
    try:
        fuzzer = build()
    except subprocess.CalledProcessError:
        sys.stderr.write(
            "The fuzzer cannot be built: it needs clang's libFuzzer and sanitizers (on Debian "
            "and Ubuntu, libclang-rt-dev), and Python's headers and library.\n"
        )
        return 1
    write_seeds(native_builds.BUILDS / "seeds")
    FOUND.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        **native_builds.SANITIZER_OPTIONS,
        "PYTHONPATH": os.pathsep.join([str(fuzzer.parent), str(Path(__file__).parent)]),
    }
    arguments = sys.argv[2:]
    if not any(not argument.startswith("-") for argument in arguments):
        arguments += [str(FOUND), str(FUZZ / "corpus"), str(native_builds.BUILDS / "seeds")]
    command = [
        str(fuzzer),
        f"-max_total_time={seconds}",
        f"-max_len={MAX_INPUT_BYTES}",
        f"-dict={FUZZ / 'json.dict'}",
        f"-artifact_prefix={fuzzer.parent}/",
        "-print_final_stats=1",
        *arguments,
    ]
    return subprocess.run(command, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
