"""`query.py DATABASE FILE.sql`: the rows, their values parted by tabs."""

import sys
from pathlib import Path

import duckdb

database, sql = sys.argv[1:]
with duckdb.connect(database, read_only=True) as connection:
    for row in connection.execute(Path(sql).read_text()).fetchall():
        print(*row, sep="\t")
