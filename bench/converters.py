"""A bundle to one Parquet file, by a program that many would use for it.

    python bench/converters.py TOOL BUNDLE.json.gz FOLDER

Run by bench.py in an environment of its own (requirements/bench-columns.txt). Each tool is asked
for what it does by itself: nobody tells it the columns.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
from pathlib import Path


def with_pyarrow(bundle: str, folder: Path) -> None:
    """By json.loads and pyarrow, as connectors in Python do."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with gzip.open(bundle) as file:
        events = json.load(file)
    names = dict.fromkeys(name for event in events for name in event)
    columns = {name: [event.get(name) for event in events] for name in names}
    pq.write_table(pa.table(columns), folder / "events.parquet", compression="zstd")


def with_polars(bundle: str, folder: Path) -> None:
    import polars as pl

    with gzip.open(bundle) as file:
        table = pl.read_json(file.read(), infer_schema_length=None)
    table.write_parquet(folder / "events.parquet", compression="zstd")


def with_duckdb(bundle: str, folder: Path) -> None:
    import duckdb

    # Its guess of the types is from the first 20,480 rows, and breaks if a later one differs.
    read = f"read_json('{bundle}', format = 'array')"
    to = f"'{folder}/events.parquet' (FORMAT parquet, COMPRESSION zstd)"
    duckdb.execute(f"COPY (FROM {read}) TO {to}")


def with_chdb(bundle: str, folder: Path) -> None:
    import chdb

    # Its guess of the types is from the first 25,000 rows: from all, it takes 2.5 times as long.
    chdb.query(
        f"SELECT * FROM file('{bundle}', 'JSONEachRow') "
        f"INTO OUTFILE '{folder}/events.parquet' FORMAT Parquet "
        "SETTINGS output_format_parquet_compression_method = 'zstd'"
    )


def with_dlt(bundle: str, folder: Path) -> None:
    os.environ.update(
        RUNTIME__DLTHUB_TELEMETRY="false", RUNTIME__LOG_LEVEL="ERROR",
        DATA_WRITER__DISABLE_COMPRESSION="true",
    )  # fmt: skip
    import dlt

    with gzip.open(bundle) as file:
        events = json.load(file)
    pipeline = dlt.pipeline(
        "bench",
        pipelines_dir=str(folder / "work"),
        destination=dlt.destinations.filesystem(f"file://{folder}/lake"),
        dataset_name="bench",
    )
    pipeline.run(events, table_name="events", loader_file_format="parquet")


TOOLS = {
    "pyarrow": with_pyarrow,
    "polars": with_polars,
    "duckdb": with_duckdb,
    "chdb": with_chdb,
    "dlt": with_dlt,
}

if __name__ == "__main__":
    TOOLS[sys.argv[1]](sys.argv[2], Path(sys.argv[3]))
