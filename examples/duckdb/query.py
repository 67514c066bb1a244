#!/usr/bin/env -S uv run --script
# /// script
# requires-python = ">=3.10"
# dependencies = [
#   "duckdb==2.0.1; python_version >= '3.11'",
#   "duckdb==1.5.6; python_version < '3.11'",
# ]
# ///
"""Print what SQL finds in a DuckDB database that load.py has loaded.

    python query.py fullstory.duckdb "SELECT count(*) FROM events"
    python query.py fullstory.duckdb question.sql
    echo 'SELECT count(*) FROM events' | python query.py fullstory.duckdb
    python query.py --spreadsheet fullstory.duckdb question.sql > answer.csv
    python query.py fullstory.duckdb --write "CREATE VIEW clicks AS ..."

Of several statements, each prints its result. The database is opened for reading only, unless
--write is given. Exit codes: 0 done; 1 DuckDB cannot run a statement or open the file, and stderr
says why; 2 usage.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import sys
from pathlib import Path
from typing import Any

import duckdb

MAX_ROWS = 10_000  # of a table
MAX_WIDTH = 10_000  # of a table that is not for a terminal
EXACT_DIGITS = 15  # of a number in a spreadsheet
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def main() -> int:
    """Run the command, and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="query.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("database", help="the file")
    parser.add_argument("sql", nargs="?", help="SQL, or the file it is in; default: stdin")
    parser.add_argument("--csv", action="store_true", help="CSV with a header, not a table")
    parser.add_argument(
        "--spreadsheet",
        action="store_true",
        help="CSV in which a spreadsheet neither rounds an id nor runs a formula",
    )
    parser.add_argument("--write", action="store_true", help="allow statements that change it")
    options = parser.parse_intermixed_args()  # --csv may come before the SQL
    if options.sql is None and sys.stdin.isatty():
        print("Type a statement, then Ctrl-D on a line of its own.", file=sys.stderr)
    try:
        sql = sys.stdin.read() if options.sql is None else _read(options.sql)
        if options.write and not Path(options.database).exists():
            parser.error(f"{options.database} does not exist")  # DuckDB would make it
        with duckdb.connect(options.database, read_only=not options.write) as connection:
            for statement in connection.extract_statements(sql):
                found = connection.sql(statement.query)
                if found is not None:
                    _print(found, options)
    except (duckdb.Error, OSError) as error:
        print(f"query.py: {error}{_hint(str(error))}", file=sys.stderr)
        return 1
    return 0


def _read(sql: str) -> str:
    """Return the SQL of an argument: itself if it has several words and is not a file."""
    if len(sql.split()) > 1 and not os.path.isfile(sql):  # noqa: PTH113 - takes a name of any length
        return sql
    return Path(sql).read_text("utf-8")


def _hint(error: str) -> str:
    """Return what to try: for a change, or if a column is missing that may be a variable."""
    if "read-only mode" in error:
        return "\nTo change the database, add --write."
    found = re.search(r'column "?((?:user|evt|page)_[^"\s]*)"? not found', error)
    if found is None:
        return ""
    path = f"'$.\"{found[1]}\"'"
    return f"\nIt may be in CustomVars: CustomVars ->> {path}"


def _print(found: duckdb.DuckDBPyRelation, options: argparse.Namespace) -> None:
    if options.csv or options.spreadsheet:
        if options.spreadsheet:
            sys.stdout.write("\ufeff")  # tells Excel that it is UTF-8
        as_cell = _spreadsheet_cell if options.spreadsheet else _itself
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(found.columns)
        writer.writerows([as_cell(value) for value in row] for row in found.fetchall())
    else:
        is_terminal = sys.stdout.isatty()
        width = os.get_terminal_size(sys.stdout.fileno()).columns if is_terminal else MAX_WIDTH
        found.show(max_rows=MAX_ROWS, max_width=width)


def _itself(value: Any) -> Any:
    return value


def _spreadsheet_cell(value: Any) -> Any:
    """Put an apostrophe before a number that would be rounded, and a text that would be run."""
    if isinstance(value, str):
        is_number = value.isdigit() and len(value) > EXACT_DIGITS
        return f"'{value}" if is_number or value.startswith(FORMULA_STARTS) else value
    if isinstance(value, int) and len(str(abs(value))) > EXACT_DIGITS:
        return f"'{value}"
    return value


if __name__ == "__main__":
    sys.exit(main())
