"""SIGINT, SIGTERM and SIGHUP: at once while the tap waits, at a checkpoint while it writes."""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from types import FrameType
from typing import TypeVar

from tap_fullstory.errors import Interrupted

T = TypeVar("T")
SAME_SIGNAL_SECONDS = 1.0
THREAD_NAME_PREFIX = "tap-fullstory-"  # of threads that nobody waits for at the end


class Signals:
    """Turns the first signal into Interrupted, where that loses and doubles nothing: at the next
    `check`, or where the main thread waits.

    One that follows within SAME_SIGNAL_SECONDS is the same signal: timeout(1) signals its child,
    and then the group that the child belongs to. A later one ends the process at once, with the
    first one's exit code, after a call of `before_exit`: it may remove a file, and must not acquire
    locks.
    """

    def __init__(self) -> None:
        self._signal: int | None = None
        self._arrived = 0.0
        self._interruptible = False
        self.before_exit: Callable[[], None] = lambda: None

    def install(self) -> None:
        """Handle SIGINT, SIGTERM and SIGHUP; only the main thread can. A SIGHUP that the caller
        ignores, as nohup does, stays ignored.
        """
        signal.signal(signal.SIGINT, self._handle)
        signal.signal(signal.SIGTERM, self._handle)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._handle)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Within, a signal raises Interrupted wherever it arrives.

        So nothing may be half done there. Must not acquire Python locks: a signal can land between
        acquiring and entering `with`.
        """
        self._interruptible = True
        try:
            self.raise_if_arrived()
            yield
        finally:
            self._interruptible = False

    def run_interruptibly(self, work: Callable[[], T]) -> T:
        """Return or raise what `work`, run by a thread, does; a signal ends the wait for it.

        A thread, since network code acquires locks, and since a signal cannot interrupt
        getaddrinfo().
        """
        done: queue.SimpleQueue[tuple[T] | BaseException] = queue.SimpleQueue()

        def run() -> None:
            try:
                done.put((work(),))
            except BaseException as error:  # noqa: BLE001 - re-raised by the main thread
                done.put(error)

        name = f"{THREAD_NAME_PREFIX}interruptible"
        context = copy_context()
        threading.Thread(target=context.run, args=(run,), name=name, daemon=True).start()
        with self.interruptible():
            result = done.get()
        if isinstance(result, BaseException):
            raise result
        return result[0]

    def raise_if_arrived(self) -> None:
        """Raise Interrupted if a signal has arrived."""
        if self._signal is not None:
            raise Interrupted(self._signal)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self._signal is not None:
            if time.monotonic() - self._arrived < SAME_SIGNAL_SECONDS:
                return
            try:
                self.before_exit()
            finally:
                os._exit(128 + self._signal)
        self._signal, self._arrived = number, time.monotonic()
        if self._interruptible:
            raise Interrupted(number)
