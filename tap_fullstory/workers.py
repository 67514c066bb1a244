"""Several processes that turn events into RECORD lines, in order.

The main process unpacks, cuts and writes; each run of events goes to a worker in turn, and the
lines come back in the same turn. Runs and lines lie in memory that the processes share, two places
for each worker, so that a worker has the next run at hand while its last lines are being written;
only their lengths go through pipes, a few bytes at a time, so no side ever waits for the other to
read.
"""

from __future__ import annotations

import gc
import mmap
import os
import pickle
import signal
import struct
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from itertools import cycle, islice
from typing import NamedTuple

import msgspec

from tap_fullstory.errors import MachineError
from tap_fullstory.events import EventReader, Position
from tap_fullstory.messages import Frame
from tap_fullstory.records import Batch, RecordEncoder, Tally

PLACES = 2  # for each worker
RUN_BYTES = 256 * 1024  # a run that is larger is turned into lines by the main process
LINE_BYTES = 2 * RUN_BYTES  # the lines of a run, and after them what was counted
_JOB = struct.Struct("<II")  # place, length of the run
_RESULT = struct.Struct("<III")  # number of events, length of the lines, length of the counts
# For the length of a run: it does not fit its place, or it is a bundle's settings instead.
_TOO_LONG, _SETTINGS = 2**32 - 1, 2**32 - 2
_REFUSED = 2**32 - 1  # for the number of events: the run is for the main process

_encode_counts = msgspec.msgpack.Encoder().encode
_decode_counts = msgspec.msgpack.Decoder(Tally).decode


class _Worker(NamedTuple):
    process_id: int
    jobs: int  # the descriptors of pipes: jobs go in, results come out
    results: int
    memory: mmap.mmap


class Workers:
    """Worker processes around one encoder; a context manager that ends them.

    Forked when they are made, which must be before the process starts its first thread. They ignore
    SIGINT and SIGTERM, and end when the main process does, however that ends.
    """

    def __init__(self, encoder: RecordEncoder, count: int) -> None:
        self._encoder = encoder
        self._workers: list[_Worker] = []
        for _ in range(count):
            self._workers.append(self._fork())

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            os.close(worker.jobs)
            with suppress(ChildProcessError):  # one that died has been waited for
                os.waitpid(worker.process_id, 0)
            os.close(worker.results)
            worker.memory.close()

    def read(
        self, reader: EventReader[Batch], frame: Frame, since: datetime | None, max_events: int
    ) -> Iterator[tuple[Batch, Position]]:
        """What iterating over `reader` gives, made by the workers.

        Raises what that raises, and MachineError if a worker dies.
        """
        pending: deque[tuple[_Worker, int, bytes]] = deque()
        settings = pickle.dumps((frame, since))
        for worker in self._workers:
            worker.memory[: len(settings)] = settings
            self._send(worker, 0, _SETTINGS)
            self._receive(worker, 0)  # it has taken them out of the place of the first run
        turns = cycle((worker, place) for place in range(PLACES) for worker in self._workers)
        more = reader.open()
        malformed = reader.malformed
        while more:
            while len(pending) < PLACES * len(self._workers) and (cut := reader.cut_run()):
                run, text = cut
                worker, place = next(turns)
                self._submit(worker, place, run)
                pending.append((worker, place, text))
            batch = self._receive(*pending[0][:2]) if pending else None
            if batch is not None and batch.events <= max_events:
                reader.advance(pending.popleft()[2], batch.events)
                yield batch, reader.position
                continue
            # A run that a worker has refused, or the last event, which nothing follows: the reader
            # tells its events apart, and the runs after it are cut anew.
            for later_worker, later_place, _ in islice(pending, 1, None):
                self._receive(later_worker, later_place)
            reader.put_back(b"".join(text for _, _, text in pending))
            pending.clear()
            yield from islice(reader, 1)
            malformed = reader.malformed
            more = malformed is None and reader.open()
        if malformed is not None:
            raise malformed

    def _submit(self, worker: _Worker, place: int, run: bytes) -> None:
        if len(run) > RUN_BYTES:
            self._send(worker, place, _TOO_LONG)
            return
        worker.memory[place * RUN_BYTES : place * RUN_BYTES + len(run)] = run
        self._send(worker, place, len(run))

    def _send(self, worker: _Worker, place: int, length: int) -> None:
        try:
            os.write(worker.jobs, _JOB.pack(place, length))
        except OSError:
            raise _died(worker) from None

    def _receive(self, worker: _Worker, place: int) -> Batch | None:
        result = os.read(worker.results, _RESULT.size)
        if not result:
            raise _died(worker)
        events, line_bytes, count_bytes = _RESULT.unpack(result)
        if events == _REFUSED:
            return None
        start = PLACES * RUN_BYTES + place * LINE_BYTES
        end = start + line_bytes
        tally = _decode_counts(worker.memory[end : end + count_bytes])
        return Batch(events, worker.memory[start:end], None, tally)

    def _fork(self) -> _Worker:
        jobs, our_jobs = os.pipe()
        our_results, results = os.pipe()
        memory = mmap.mmap(-1, PLACES * (RUN_BYTES + LINE_BYTES))
        process_id = os.fork()
        if process_id:
            os.close(jobs)
            os.close(results)
            return _Worker(process_id, our_jobs, our_results, memory)
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            # As long as another process holds the end where jobs go in, their end is never seen.
            for descriptor in (our_jobs, *(other.jobs for other in self._workers)):
                os.close(descriptor)
            _work(self._encoder, jobs, results, memory)
        finally:
            os._exit(0)


def _work(encoder: RecordEncoder, jobs: int, results: int, memory: mmap.mmap) -> None:
    """Answer jobs until the main process is gone."""
    gc.disable()  # as in the loop of sync.py
    frame, since = Frame(b"", b""), None
    while job := os.read(jobs, _JOB.size):
        place, length = _JOB.unpack(job)
        if length == _SETTINGS:
            frame, since = pickle.loads(memory)  # noqa: S301 - from our own process
        batch = None
        if length <= RUN_BYTES:
            run = memory[place * RUN_BYTES : place * RUN_BYTES + length]
            # What goes wrong here goes wrong in the main process as well, which has words for it.
            with suppress(Exception):
                batch = encoder.encode(run, frame, since)
        result = _RESULT.pack(_REFUSED, 0, 0)
        if batch is not None and batch.malformed is None:
            counts = _encode_counts(batch.tally)
            line_bytes = len(batch.lines)
            if line_bytes + len(counts) <= LINE_BYTES:
                start = PLACES * RUN_BYTES + place * LINE_BYTES
                end = start + line_bytes
                memory[start:end] = batch.lines
                memory[end : end + len(counts)] = counts
                result = _RESULT.pack(batch.events, line_bytes, len(counts))
        os.write(results, result)


def _died(worker: _Worker) -> MachineError:
    # Its end of the pipe is closed, so it has ended, or is about to.
    _, status = os.waitpid(worker.process_id, 0)
    how = f"by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "by itself"
    return MachineError(
        f"A worker process (pid {worker.process_id}) was ended {how}, perhaps for want of memory. "
        "Run again with the last state; fewer workers in the config need less."
    )
