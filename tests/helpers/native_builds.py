"""Builds of the C extension that find what an ordinary one does not.

    python tests/helpers/native_builds.py warnings
    python tests/helpers/native_builds.py sanitized [PYTEST-ARGUMENT ...]

`warnings` compiles it with gcc and clang, as far as they are installed, and warnings are errors.
`sanitized` runs its tests in a build with AddressSanitizer, UndefinedBehaviorSanitizer and
assertions. Both need a C compiler and Python's headers; `sanitized` uses gcc, or the one in CC.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from itertools import product
from pathlib import Path

from environments import ROOT

SOURCES = (
    ROOT / "tap_fullstory/records/_native.c",
    ROOT / "tap_fullstory/output/_columns.c",
)
BUILDS = ROOT / ".venvs/builds"
HEADERS = ["-isystem", sysconfig.get_path("include")]
WARNINGS = (
    "-Wall -Wextra -Wconversion -Wsign-conversion -Wshadow -Wstrict-prototypes -Werror".split()
)
SANITIZERS = (
    "-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer".split()
)
# Python itself does not free all that it has at its end.
SANITIZER_OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "PYTHONMALLOC": "malloc",
}
TESTS = [
    "tests/records/test_native.py",
    "tests/records/test_native_memory.py",
    "tests/output/test_column_files.py",
]


def check_warnings() -> int:
    """Return 0 if every installed compiler takes the sources without a warning."""
    compilers = [name for name in ("gcc", "clang") if shutil.which(name)]
    if not compilers:
        sys.stderr.write("neither gcc nor clang is installed\n")
        return 2
    for compiler, macro, source in product(compilers, ("-DNDEBUG", "-UNDEBUG"), SOURCES):
        command = [compiler, "-std=c11", "-O2", macro, *WARNINGS, *HEADERS, "-c", str(source)]
        if subprocess.run([*command, "-o", os.devnull]).returncode:
            return 1
    sys.stdout.write(f"no warnings by {' and '.join(compilers)}\n")
    return 0


def build(name: str, compiler: str, *flags: str) -> Path:
    """Return a folder with a copy of the package whose C extensions are built with `flags`."""
    folder = BUILDS / name
    shutil.rmtree(folder, ignore_errors=True)
    package = folder / "tap_fullstory"
    shutil.copytree(
        ROOT / "tap_fullstory", package, ignore=shutil.ignore_patterns("*.so", "__pycache__")
    )
    for source in SOURCES:
        command = [
            compiler,
            "-shared",
            "-fPIC",
            "-O1",
            "-g",
            "-UNDEBUG",
            *flags,
            *HEADERS,
            str(source),
        ]
        built = folder / source.relative_to(ROOT).with_suffix(".abi3.so")
        subprocess.run([*command, "-o", str(built)], check=True)
    return folder


def run_sanitized(arguments: list[str]) -> int:
    """Return the exit code of pytest over the sanitized build."""
    compiler = os.environ.get("CC") or "gcc"
    if shutil.which(compiler) is None:
        sys.stderr.write(f"{compiler} is not installed: set CC to a compiler with sanitizers\n")
        return 2
    folder = build("sanitized", compiler, *SANITIZERS)
    runtime = "libasan.so"
    if "clang" in compiler:
        runtime = f"libclang_rt.asan-{os.uname().machine}.so"
    found = subprocess.run(
        [compiler, f"-print-file-name={runtime}"], check=True, capture_output=True, text=True
    )
    environment = {
        **os.environ,
        **SANITIZER_OPTIONS,
        "LD_PRELOAD": found.stdout.strip(),  # has to be there before Python allocates anything
        "PYTHONPATH": str(folder),
        "TAP_FULLSTORY_TEST_BUILD": str(folder),  # test_native.py checks that it is used
    }
    pytest = Path(sys.executable).parent / "pytest"  # `python -m` would find the package in ROOT
    command = [str(pytest), "-p", "no:cacheprovider", *TESTS, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment).returncode


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["warnings"]:
            sys.exit(check_warnings())
        case ["sanitized", *rest]:
            sys.exit(run_sanitized(rest))
        case _:
            sys.exit(__doc__)
