"""Worker threads that take the most urgent work first, and can be interrupted as a whole."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Self, TypeVar

from harness import process

T = TypeVar("T")
_URGENT, _NORMAL, _LAST = range(3)


class Workers:
    """Worker threads that, when the main thread is interrupted, end at once and start no more."""

    def __init__(self, jobs: int) -> None:
        self._waiting: queue.PriorityQueue[tuple[int, int, Callable[[], None]]] = (
            queue.PriorityQueue()
        )
        self._numbers = itertools.count()
        self._stopped = False
        self._futures: list[Future[Any]] = []
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(jobs)]
        for thread in self._threads:
            thread.start()

    def submit(self, task: Callable[[], T], *, urgent: bool = False) -> Future[T]:
        """Run ``task`` as soon as a thread is free: urgent ones first, each kind in order."""
        future: Future[T] = Future()
        self._futures.append(future)

        def run() -> None:
            if self._stopped or not future.set_running_or_notify_cancel():
                future.cancel()
                return
            try:
                future.set_result(task())
            except BaseException as error:  # given to whoever asks for the result
                future.set_exception(error)

        self._waiting.put((_URGENT if urgent else _NORMAL, next(self._numbers), run))
        return future

    def _work(self) -> None:
        while True:
            rank, _, run = self._waiting.get()
            run()
            del run  # and with it whatever the task held
            if rank == _LAST:
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stopped = kind is not None
        for _thread in self._threads:
            self._waiting.put((_LAST, next(self._numbers), lambda: None))
        # A task may be between two runs when the first are ended, so until all have noticed.
        while self._stopped and any(future.running() for future in self._futures):
            process.kill_all()
            time.sleep(0.02)
        for thread in self._threads:
            thread.join()
