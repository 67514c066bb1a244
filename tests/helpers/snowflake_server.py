"""A stand-in for Snowflake's server, as far as MeltanoLabs' target-snowflake needs one.

It answers Snowflake's connector for Python over HTTP: login, queries, PUT. It knows the statements
that the target sends, which DuckDB executes in memory, and fails at all others. What it has in its
tables came there as it does in Snowflake: uploaded by PUT, then read by COPY or MERGE in a
transaction. It does not show what Snowflake itself makes of values and of SQL.

fakesnow 0.12.1 is a larger stand-in, and lacks these four: PUT into a user's stage (`@~`), COPY of
members of JSON, MERGE from a stage, and REMOVE.

The statements: https://github.com/MeltanoLabs/target-snowflake, target_snowflake/connector.py.
The HTTP: https://github.com/snowflakedb/snowflake-connector-python, network.py and cursor.py.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
import sys
import tempfile
import traceback
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar
from urllib.request import ProxyHandler, build_opener

Json = dict[str, Any]
Answer = list[dict[str, Any]]  # rows

DATABASE = "RAW"
# What Snowflake has, what DuckDB has for it, and how Snowflake describes it.
TYPES = {
    "DECIMAL": "DECIMAL(38,0)",
    "FLOAT": "DOUBLE",
    "TIMESTAMP_NTZ": "TIMESTAMP",
    "VARIANT": "JSON",
}
DESCRIBED = {
    "BOOLEAN": "BOOLEAN",
    "DECIMAL(38,0)": "NUMBER(38,0)",
    "DOUBLE": "FLOAT",
    "JSON": "VARIANT",
    "TIMESTAMP": "TIMESTAMP_NTZ(9)",
    "VARCHAR": "VARCHAR(16777216)",
}
NAME = r'(?:"(?:[^"]|"")+"|\w+)'


class Snowflake:
    """A server that listens on loopback and lets everyone in."""

    def __init__(self, port: int) -> None:
        self._address = f"127.0.0.1:{port}"

    def command(self, program: Path, config: Path, **settings: Any) -> list[str]:
        """Write the config of a target-snowflake that loads into this server; return its command.

        The target has no setting for the host, but makes a URL of the account. The variable has
        snowflake-sqlalchemy accept an account that is more than a name, with a warning.
        """
        account = f"{self._address}/{DATABASE}?protocol=http&account=standin&rest="
        login = {"account": account, "user": "tester", "password": "-", "database": DATABASE}
        config.write_text(json.dumps({**login, **settings}))
        variables = ["SNOWFLAKE_SQLALCHEMY_LEGACY_URL_PARAMS=1", "no_proxy=127.0.0.1"]
        return ["env", *variables, str(program), "--config", str(config)]

    def lines(self, sql: str) -> Iterator[bytes]:
        """Yield the rows of a SELECT in DuckDB's SQL, each as a JSON object."""
        with self._open(f"select to_json(found) from ({sql}) as found") as rows:
            yield from rows

    def query(self, sql: str) -> list[Json]:
        """The rows of a SELECT."""
        return [json.loads(line) for line in self.lines(sql)]

    def execute(self, sql: str) -> None:
        """Run a statement that gives no rows, in DuckDB's SQL."""
        self._open(sql).close()

    def _open(self, sql: str) -> Any:
        direct = build_opener(ProxyHandler({}))
        return direct.open(f"http://{self._address}/duckdb", sql.encode())


@contextmanager
def server(python: Path) -> Iterator[Snowflake]:
    """Within, a new and empty server, run by a Python that can `import duckdb`."""
    with subprocess.Popen(
        [python, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as started:
        yield Snowflake(int(started.stdout.readline()))


# --- the server itself ---


class Session:
    """A login, without autocommit: what changes rows begins a transaction, what changes tables ends
    one, as https://docs.snowflake.com/en/sql-reference/transactions has it.
    """

    def __init__(self, connection: Any, stage: Path) -> None:
        self._connection, self._stage = connection, stage
        self._connection.execute(f"use {DATABASE}")
        self._is_in_transaction = False

    def answer(self, sql: str) -> Answer:
        """Execute a statement. Raises what DuckDB raises, and ValueError if it is not known."""
        first, second = sql.lower().split(None, 2)[:2] if " " in sql else (sql.lower(), "")
        if first in ("commit", "rollback"):
            self._end_transaction(first)
        elif first in ("copy", "merge"):
            if not self._is_in_transaction:
                self._connection.execute("begin")
                self._is_in_transaction = True
            return self._copy(sql) if first == "copy" else self._merge(sql)
        elif (first, second) in (("create", "schema"), ("create", "table"), ("alter", "table")):
            self._end_transaction("commit")
            # Snowflake enforces no primary key:
            # https://docs.snowflake.com/en/sql-reference/constraints-overview
            sql = re.sub(r"AUTOINCREMENT|,\s*PRIMARY KEY \([^)]*\)", "", sql)
            self._connection.execute(re.sub(r"\b[A-Z_]+\b", _duckdb_type, sql))
        elif first == "remove":
            shutil.rmtree(self._folder(sql), ignore_errors=True)
        elif sql.startswith("DESC TABLE"):
            return self._describe(sql.removeprefix("DESC TABLE").removesuffix("TYPE = COLUMNS"))
        elif sql == "SHOW DATABASES":
            return [{"created_on": None, "name": DATABASE}]
        elif sql == "SHOW SCHEMAS":
            found = self._connection.execute("select schema_name from duckdb_schemas()").fetchall()
            return [{"created_on": None, "name": name.upper()} for (name,) in found]
        elif sql == "SELECT CURRENT_VERSION()":
            return [{"version": "9.0.0"}]
        elif sql == "select current_database(), current_schema()":
            return [{"database": DATABASE, "schema": None}]
        elif "file format" not in sql and (first, second) != ("alter", "session"):
            raise ValueError(f"not known to this server: {sql}")
        return [{"status": "Statement executed successfully."}]

    def put(self, sql: str) -> Json:
        """Have the connector copy a file into a folder: LOCAL_FS in its file_transfer_agent.py."""
        (file,) = re.findall(r"^put 'file://([^']+)'", sql)
        return {
            "command": "UPLOAD",
            "src_locations": [file],
            "stageInfo": {
                "locationType": "LOCAL_FS",
                "location": str(self._folder(sql)),
                "creds": {},
            },
            "sourceCompression": "auto_detect",
            "autoCompress": True,
            "overwrite": False,
            "parallel": 4,
        }

    def _end_transaction(self, how: str) -> None:
        if self._is_in_transaction:
            self._connection.execute(how)
            self._is_in_transaction = False

    def _folder(self, sql: str) -> Path:
        """Return where the files of the stage are that a statement names."""
        (name,) = re.findall(r"'@~/target-snowflake/([\w-]+)/?'", sql)
        return self._stage / name

    def _reading_files(self, sql: str) -> str:
        """Put what reads the files into a statement, in place of the stage that it names.

        A text of a Parquet file is a text as VARIANT, too: the cast does not parse it
        (https://docs.snowflake.com/en/sql-reference/functions/to_variant). A column that a file
        does not have is null.
        """
        columns: dict[str, str] = {}
        folder = self._folder(sql)
        is_parquet = any(folder.glob("*.parquet"))
        there = set()
        if is_parquet:
            found = self._connection.execute(f"describe from '{folder}/*.parquet'").fetchall()
            there = {name for name, *_ in found}

        def column(member: re.Match[str]) -> str:
            name = member[1].strip('"')
            columns[name] = kind = TYPES.get(member[2], member[2])
            if not is_parquet:
                return f'"{name}"'
            if name not in there:
                return f"null::{kind}"
            return f'to_json("{name}")' if kind == "JSON" else f'"{name}"::{kind}'

        sql = re.sub(rf"\$1:({NAME})::(\w+)(?:\(\d+\))?", column, sql)
        read = f"read_json('{folder}/*', format='newline_delimited', columns={columns})"
        if is_parquet:
            read = f"read_parquet('{folder}/*.parquet')"
        numbered = f"(select *, row_number() over () as _row from {read})"
        sql = re.sub(r"'@~[^']*'(\(file_format => [^)]*\))?", lambda _: numbered, sql)
        return sql.replace("SEQ8()", "_row")

    def _copy(self, sql: str) -> Answer:
        sql = re.sub(r"^copy(.*)file_format = \(.*\)$", r"insert\1", sql)
        count = self._connection.execute(self._reading_files(sql)).fetchone()[0]
        return [{"file": "all", "status": "LOADED", "rows_parsed": count, "rows_loaded": count}]

    def _merge(self, sql: str) -> Answer:
        sql = re.sub(rf"\bd\.({NAME} = s\.{NAME}(?:, | when not ))", r"\1", sql)
        sql = self._reading_files(f"{sql} returning merge_action")
        done = [action for (action,) in self._connection.execute(sql).fetchall()]
        return [{"inserted": done.count("INSERT"), "updated": done.count("UPDATE")}]

    def _describe(self, table: str) -> Answer:
        more = ("default", "primary key", "unique key", "check", "expression", "comment")
        return [
            {
                "name": name.upper(),
                "type": DESCRIBED[kind],
                "kind": "COLUMN",
                "null?": "Y",
                **dict.fromkeys(more),
            }
            for name, kind, *_ in self._connection.execute(f"describe {table}").fetchall()
        ]


def _duckdb_type(word: re.Match[str]) -> str:
    return TYPES.get(word[0], word[0])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # or head and body leave as two packets, and the second waits
    database: Any
    stage: Path
    sessions: ClassVar[dict[str, Session]] = {}
    session: Session | None = None

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        body = self.rfile.read(length)
        if len(body) < length:  # the client has been killed
            return
        if self.headers["Content-Encoding"] == "gzip":
            body = gzip.decompress(body)
        path = self.path.partition("?")[0]
        if path == "/duckdb":
            self._send(self._duckdb(body.decode()))
        elif path == "/session/v1/login-request":
            token = str(uuid.uuid4())
            self.sessions[token] = Session(self.database.cursor(), self.stage)
            data = {"token": token, "masterToken": token, "parameters": [], "sessionInfo": {}}
            self._send_json({"data": data, "success": True})
        elif path == "/queries/v1/query-request":
            token = self.headers["Authorization"].split('"')[1]
            self.session = self.sessions[token]
            self._send_json(self._query(self.session, json.loads(body)["sqlText"]))
        else:  # telemetry, heartbeat, logout
            self._send_json({"data": None, "success": True})

    def finish(self) -> None:
        """Roll back what a client that is gone has not committed. Snowflake may wait for hours."""
        super().finish()
        if self.session is not None:
            self.session.answer("rollback")

    def _query(self, session: Session, sql: str) -> Json:
        sql = re.sub(r"/\*.*?\*/ ", "", sql).strip().rstrip(";")
        try:
            data = session.put(sql) if sql.startswith("put ") else _table(session.answer(sql))
        except Exception as error:  # noqa: BLE001 - DuckDB's are not to be had in all environments
            missing = type(error).__name__ == "CatalogException"
            if not missing:
                traceback.print_exc()
            code, state = ("002003", "42S02") if missing else ("001003", "42000")
            data = {"errorCode": code, "sqlState": state}
            return {"data": data, "success": False, "code": code, "message": str(error)}
        return {"data": data, "success": True}

    def _duckdb(self, sql: str) -> bytes:
        """Execute what a test asks; return the texts of the first column, each a line."""
        rows = self.database.cursor().execute(f"use {DATABASE}; {sql}").fetchall()
        return b"".join(f"{row[0]}\n".encode() for row in rows)

    def _send_json(self, answer: Json) -> None:
        self._send(json.dumps(answer).encode())

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


def _table(rows: Answer) -> Json:
    """Return rows as the connector reads them: each cell a text, and how to take it."""
    kinds = {name: "fixed" if isinstance(cell, int) else "text" for name, cell in rows[0].items()}
    return {
        "rowtype": [
            {"name": name, "type": kind, "precision": 38, "scale": 0, "length": 0, "nullable": True}
            for name, kind in kinds.items()
        ],
        "rowset": [[None if cell is None else str(cell) for cell in row.values()] for row in rows],
        "queryResultFormat": "json",
        "queryId": str(uuid.uuid4()),
        "total": len(rows),
        "returned": len(rows),
        "parameters": [],
    }


def main() -> None:
    """Print the port, and serve until stdin ends."""
    import duckdb

    Handler.database = duckdb.connect()
    Handler.database.execute(f"attach ':memory:' as {DATABASE}; set global timezone = 'UTC'")
    with (
        tempfile.TemporaryDirectory(prefix="tap-fullstory-snowflake-") as stage,
        ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http,
    ):
        Handler.stage = Path(stage)
        Thread(target=http.serve_forever, daemon=True).start()
        sys.stdout.write(f"{http.server_port}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
