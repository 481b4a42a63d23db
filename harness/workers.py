"""Worker threads whose work can be interrupted as a whole."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self, TypeVar

from harness import process

T = TypeVar("T")


class Workers:
    """Worker threads that, when the main thread is interrupted, end at once and start no more."""

    def __init__(self, jobs: int) -> None:
        self._executor = ThreadPoolExecutor(max_workers=jobs)
        self._futures: list[Future[Any]] = []

    def submit(self, task: Callable[[], T]) -> Future[T]:
        future = self._executor.submit(task)
        self._futures.append(future)
        return future

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._executor.shutdown(wait=kind is None, cancel_futures=True)
        # A task may be between two runs when the first are ended, so until all have noticed.
        while any(future.running() for future in self._futures):
            process.kill_all()
            time.sleep(0.02)
