"""Write into the documents what the code says: settings, flags, exit codes, streams, columns.

    python docs/generate.py

replaces the text between each pair of markers, `<!-- generated: NAME -->` and `<!-- end -->`.
tests/docs/test_docs.py fails if a document differs from it.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests/helpers"))
import dictionary
import texts

from tap_fullstory import _parser as tap_parser
from tap_fullstory import columns as columns_module
from tap_fullstory import counts, errors
from tap_fullstory.catalog import discover
from tap_fullstory.columns import marked_members, personal_data
from tap_fullstory.errors import Interrupted, TapError
from tap_fullstory.exports import data_export, unpack
from tap_fullstory.fullstory import connections, responses, retry, session
from tap_fullstory.logs.lines import MEMBERS
from tap_fullstory.records import json_text
from tap_fullstory.sandbox.__main__ import _parser as sandbox_parser
from tap_fullstory.setting_types import BOOL
from tap_fullstory.settings import GROUPS, SHOWN_SETTINGS, Setting
from tap_fullstory.streams import STREAMS, Stream

ROOT = Path(__file__).resolve().parent.parent
SETTINGS_PAGE = ROOT / "docs/settings.md"
BLOCK = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end -->\n)", re.DOTALL)

EXIT_CODES = {
    0: "Done.",
    1: "Failed: FullStory, the network, the data, this machine, or the target closed the pipe.",
    2: "The command line, config, catalog or state cannot be used. Nothing was read.",
    129: "Ended by SIGHUP after a checkpoint, such as when a terminal or an ssh session closes.",
    130: "Ended by SIGINT (Ctrl-C) after a checkpoint.",
    143: "Ended by SIGTERM after a checkpoint.",
}
SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def documents() -> Iterator[Path]:
    """Yield every document that people read: at the top, in docs/, bench/ and examples/."""
    yield from sorted(ROOT.glob("*.md"))
    yield from sorted(ROOT.glob("docs/*.md"))
    yield from sorted(ROOT.glob("bench/*.md"))
    yield from sorted(ROOT.glob("examples/**/*.md"))


def regenerate(text: str) -> str:
    """Return the text of a document with everything between markers as the code has it now."""
    return BLOCK.sub(lambda found: f"{found[1]}\n{SECTIONS[found[2]]()}\n{found[3]}", text)


def settings() -> str:
    """Return a section for each group of settings, with a table that has an anchor for each."""
    detailed = set(re.findall(r"^### `(\w+)`$", SETTINGS_PAGE.read_text("utf-8"), re.MULTILINE))
    if unknown := detailed - {one.name for one in SHOWN_SETTINGS}:
        raise ValueError(f"{SETTINGS_PAGE.name} has headings that are no settings: {unknown}")
    sections = []
    for group in GROUPS:
        rows = [_setting(one, detailed) for one in SHOWN_SETTINGS if one.group is group]
        table = _table(["setting", "default", "what for"], rows)
        sections.append(f"## {group.title}\n\n{group.purpose}\n\n{table}")
    return "\n".join(sections)


def limits() -> str:
    """Return the table of limits on what FullStory and the network send."""
    fails = "The run fails."
    throttled = f"{retry.MAX_THROTTLED_SECONDS // 60} minutes"
    rows = [
        ["levels of objects and arrays in an event or a response", json_text.MAX_DEPTH, fails],
        ["digits of an integer", columns_module.MAX_DIGITS, "The value is a type mismatch."],
        ["keys of a single event", f"{json_text.MAX_KEYS:,}", fails],
        [
            "length of a date-time",
            f"{columns_module.MAX_DATE_TIME_BYTES} bytes",
            "The value is a type mismatch.",
        ],
        ["levels of gzip inside gzip", unpack.MAX_GZIP_LEVELS, "The bundle counts as damaged."],
        ["size of an API response, unpacked", f"{responses.MAX_ANSWER_BYTES >> 20} MB", fails],
        ["size of a single event", "`max_event_mb`", fails],
        ["redirects of one request", session.MAX_REDIRECTS, fails],
        [
            "tries of a request that fails, in a sync",
            f"{retry.MAX_TRIES}, and {retry.MIN_RETRY_SECONDS // 60} minutes at least",
            fails,
        ],
        ["the same of `--test` and `--discover`", retry.MAX_TRIES, fails],
        [
            "time for which a response brings less than 1 kB/s",
            f"{responses.SLOW_SECONDS // 60} minutes",
            "It counts as cut, and is requested again; a bundle is resumed.",
        ],
        [
            "headers of a response",
            f"{connections.MAX_HEADERS:,}, of {connections.MAX_HEADER_BYTES >> 10} kB in all",
            fails,
        ],
        ["time for which one request is throttled", throttled, fails],
        [
            "how far in the future a bundle may end",
            f"{data_export.MAX_FUTURE.days} days",
            "The bundle is not written yet; a WARNING names it.",
        ],
        ["names that a log line counts", counts.MAX_NAMES, "The others are counted together."],
    ]
    return _table(
        ["limit on", "at most", "beyond that"], [[str(cell) for cell in row] for row in rows]
    )


def flags() -> str:
    """Return the table of the tap's options."""
    return _options(tap_parser())


def sandbox_flags() -> str:
    """Return the table of the sandbox's options."""
    return _options(sandbox_parser())


def exit_codes() -> str:
    """Return the table of exit codes. Raises ValueError if one lacks its meaning here."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    codes = {0, *(kind.exit_code for kind in kinds if issubclass(kind, TapError))}
    codes |= {Interrupted(number).exit_code for number in SIGNALS}
    if codes != set(EXIT_CODES):
        raise ValueError(f"EXIT_CODES lists {sorted(EXIT_CODES)}, the code has {sorted(codes)}")
    return _table(["exit code", "meaning"], [[f"`{c}`", EXIT_CODES[c]] for c in sorted(codes)])


def streams() -> str:
    """Return the table of streams."""
    head = ["stream", "primary key", "replication", "key level", "requests in each run"]
    return _table(head, [_stream(stream) for stream in STREAMS])


def columns() -> str:
    """Return the data dictionary: for each subject a heading and a table of its columns."""
    head = ["column", "type", "example", "filled by", "personal", "meaning"]
    return "\n".join(
        f"### {subject}\n\n{_table(head, rows)}" for subject, rows in dictionary.sections()
    )


def personal() -> str:
    """Return the table of what can hold personal data: a row for the streams that hold the same."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for stream, entry in zip(STREAMS, discover()["streams"], strict=True):
        found: dict[str | None, list[str]] = {}
        names = [*entry["schema"]["properties"], *(path for path, _ in marked_members(stream))]
        for name in names:
            found.setdefault(personal_data(stream, name), []).append(f"`{name}`")
        cells = tuple(", ".join(found.get(answer, [])) for answer in ("yes", "an id", "can"))
        if any(cells):
            rows.setdefault(cells, []).append(f"`{stream.name}`")
    head = ["stream", "yes", "an id", "can"]
    return _table(head, [[", ".join(streams), *cells] for cells, streams in rows.items()])


def log_members() -> str:
    """Return the table of the members that a line of a JSON log can have."""
    return _table(["member", "in"], [[f"`{name}`", MEMBERS[name]] for name in MEMBERS])


def warning_codes() -> str:
    """Return the codes of WARNINGs, each with a link to its row of the troubleshooting page."""
    codes = sorted(texts.warning_codes())
    return ",\n".join(f"[`{code}`](troubleshooting.md#{code})" for code in codes) + "\n"


def _setting(setting: Setting, detailed: set[str]) -> list[str]:
    """Return the row of a setting. Those in `detailed` have a heading, which says what they may be;
    the others have an anchor here.
    """
    name = f"`{setting.name}`"
    default = setting.default_text or setting.default
    shown = f"`{json.dumps(default).strip(chr(34))}`" if default is setting.default else default
    if setting.name in detailed:
        return [f"[{name}](#{setting.name})", str(shown), setting.explanation]
    cells = [f'<a id="{setting.name}"></a>{name}', str(shown).replace("<", r"\<")]
    same = next(one for one in SHOWN_SETTINGS if one.allowed == setting.allowed)
    if setting.type is BOOL or all(
        f"`{one}`" in setting.explanation for one in setting.choices or [""]
    ):
        return [*cells, setting.explanation]
    allowed = setting.allowed if same is setting else f"as for `{same.name}`"
    return [*cells, f"{setting.explanation} Allowed: {allowed}."]


def _stream(stream: Stream) -> list[str]:
    return [
        f"`{stream.name}`",
        ", ".join(f"`{name}`" for name in stream.key_properties) or "none",
        stream.replication_method
        + (f" on `{stream.replication_key}`" if stream.replication_key else ""),
        stream.level + (f", and {stream.add_on}" if stream.add_on else ""),
        stream.cost,
    ]


def _options(parser: argparse.ArgumentParser) -> str:
    rows = []
    for action in parser._actions:
        takes = "" if action.nargs == 0 else _value(action)
        names = [*action.option_strings[:-1], f"{action.option_strings[-1]}{takes}"]
        meaning = (action.help or "") % {**vars(action), "prog": parser.prog}
        rows.append([", ".join(f"`{name}`" for name in names), meaning])
    return _table(["flag", "meaning"], rows)


def _value(action: argparse.Action) -> str:
    if action.choices:
        return " " + "|".join(map(str, action.choices))
    return f" {action.metavar or action.dest.upper()}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [[cell.replace("|", r"\|") for cell in row] for row in (head, *rows)]
    drawn = [f"| {' | '.join(line)} |\n" for line in lines]
    return "".join([drawn[0], "|---" * len(head), "|\n", *drawn[1:]])


SECTIONS: dict[str, Callable[[], str]] = {
    "columns": columns,
    "exit-codes": exit_codes,
    "flags": flags,
    "limits": limits,
    "log-members": log_members,
    "personal": personal,
    "sandbox-flags": sandbox_flags,
    "settings": settings,
    "streams": streams,
    "warning-codes": warning_codes,
}

if __name__ == "__main__":
    for path in documents():
        path.write_text(regenerate(path.read_text("utf-8")), "utf-8")
