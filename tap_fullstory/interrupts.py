"""SIGINT and SIGTERM: at once while the tap only waits, at the next checkpoint while it writes."""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

from tap_fullstory.errors import Interrupted

T = TypeVar("T")
THREADS = "tap-fullstory-"  # begins the names of threads that nobody waits for at the end


class Interrupts:
    """Turns the first signal into Interrupted, at a moment that loses and doubles nothing: at the
    next `check`, or where the main thread waits.

    A second signal ends the process at once, with the first one's exit code.
    """

    def __init__(self) -> None:
        self._signal: int | None = None
        self._waiting = False

    def install(self) -> None:
        """Take over SIGINT and SIGTERM; only the main thread can."""
        signal.signal(signal.SIGINT, self._handle)
        signal.signal(signal.SIGTERM, self._handle)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Within, a signal raises Interrupted wherever it arrives.

        So nothing may be half done there, and no lock be taken in Python: `with lock` itself can be
        broken off between taking it and being bound to release it.
        """
        self._waiting = True
        try:
            self.check()
            yield
        finally:
            self._waiting = False

    def result_of(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises, done by a thread while a signal may end the waiting.

        A thread since what talks to the network takes locks, and since a signal does not break off
        the system's look-up of a host's name.
        """
        done: queue.SimpleQueue[tuple[T] | BaseException] = queue.SimpleQueue()

        def run() -> None:
            try:
                done.put((work(),))
            except BaseException as error:  # noqa: BLE001 - raised again by the one who waits
                done.put(error)

        thread = threading.Thread(target=run, name=f"{THREADS}waited-for", daemon=True)
        thread.start()
        with self.waiting():
            result = done.get()
        thread.join()
        if isinstance(result, BaseException):
            raise result
        return result[0]

    def check(self) -> None:
        """Raises Interrupted if a signal has arrived."""
        if self._signal is not None:
            raise Interrupted(self._signal)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self._signal is not None:
            os._exit(128 + self._signal)
        self._signal = number
        if self._waiting:
            raise Interrupted(number)
