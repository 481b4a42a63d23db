"""Worker threads: order, results, errors, and that an interrupt ends everything."""

from __future__ import annotations

import threading
import time
from functools import partial

import pytest

from harness.workers import Workers


def test_urgent_work_goes_first_and_each_kind_in_order() -> None:
    gate = threading.Event()
    order: list[str] = []
    with Workers(1) as pool:
        pool.submit(gate.wait)
        for name in ("a", "b"):
            pool.submit(partial(order.append, name))
        for name in ("c", "d"):
            pool.submit(partial(order.append, name), urgent=True)
        gate.set()
    assert order == ["c", "d", "a", "b"]


def test_results_and_errors_reach_who_asks() -> None:
    def fail() -> int:
        raise ValueError("no")

    with Workers(2) as pool:
        good, bad = pool.submit(lambda: 7), pool.submit(fail)
    assert good.result(0) == 7
    with pytest.raises(ValueError, match="no"):
        bad.result(0)


def test_an_error_in_the_block_starts_nothing_more() -> None:
    started: list[int] = []
    gate = threading.Event()
    with pytest.raises(KeyboardInterrupt), Workers(1) as pool:
        running = pool.submit(gate.wait)
        waiting = [pool.submit(lambda: started.append(1)) for _ in range(3)]
        while not running.running():
            time.sleep(0.001)
        threading.Timer(0.1, gate.set).start()
        raise KeyboardInterrupt
    assert started == []
    assert all(future.cancelled() for future in waiting)
