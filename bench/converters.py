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

    # Of less than all rows, its guess of the types breaks at a later one.
    read = f"read_json('{bundle}', format = 'array', sample_size = -1)"
    to = f"'{folder}/events.parquet' (FORMAT parquet, COMPRESSION zstd)"
    duckdb.execute(f"COPY (FROM {read}) TO {to}")


def with_chdb(bundle: str, folder: Path) -> None:
    import chdb

    settings = (
        "input_format_max_rows_to_read_for_schema_inference = 1000000000, "
        "input_format_max_bytes_to_read_for_schema_inference = 100000000000, "
        "output_format_parquet_compression_method = 'zstd'"
    )
    to = f"INTO OUTFILE '{folder}/events.parquet' FORMAT Parquet"
    chdb.query(f"SELECT * FROM file('{bundle}', 'JSONEachRow') {to} SETTINGS {settings}")


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
