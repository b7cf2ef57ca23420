"""The service loop: runs, counts what is under way, fails aloud, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

import pytest

from drivers.errors import BenchError, NotOpenError
from drivers.service_loop import Activity, ServiceLoop


def names() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("service-loop")]


# Activity


def test_quiet_is_when_everything_that_began_has_ended() -> None:
    activity = Activity()
    assert activity.is_quiet
    activity.begin("MeterValues")
    activity.begin("MeterValues")
    assert not activity.is_quiet
    activity.end("MeterValues")
    assert not activity.is_quiet
    activity.end("MeterValues")
    activity.wait_quiet(0.01)
    assert activity.is_quiet


def test_waiting_for_quiet_ends_and_names_what_is_open() -> None:
    activity = Activity()
    activity.begin("StatusNotification")
    activity.begin("MeterValues")
    activity.begin("Heartbeat")
    activity.end("Heartbeat")
    began_s = time.monotonic()
    with pytest.raises(BenchError, match=r"still under way after 0\.05 s of real time: MeterValues, StatusNotif"):
        activity.wait_quiet(0.05)
    assert time.monotonic() - began_s < 1.0


def test_ending_more_than_began_is_a_defect_that_is_told() -> None:
    activity = Activity()
    with pytest.raises(BenchError, match="'MeterValues' ended more often than it began"):
        activity.end("MeterValues")


def test_a_failure_inside_a_counted_block_is_uncounted() -> None:
    activity = Activity()
    with pytest.raises(KeyError), activity.counted("call"):
        raise KeyError("x")
    assert activity.is_quiet


def test_a_waiter_wakes_when_another_thread_ends_the_last() -> None:
    activity = Activity()
    activity.begin("reply")
    timer = threading.Timer(0.05, lambda: activity.end("reply"))
    timer.start()
    activity.wait_quiet(5.0)
    timer.join()
    assert activity.is_quiet


# Loop


def test_functions_and_coroutines_run_on_the_loops_own_thread() -> None:
    with ServiceLoop("test") as loop:

        async def where() -> str:
            return threading.current_thread().name

        assert loop.run(where(), 1.0) == loop.call(lambda: threading.current_thread().name) == "service-loop-test"
        assert loop.thread_id != threading.get_native_id()
    assert names() == []


def test_an_error_comes_back_to_who_asked() -> None:
    with ServiceLoop() as loop, pytest.raises(ZeroDivisionError):
        loop.call(lambda: 1 // 0)


def test_what_takes_too_long_is_cancelled_at_its_time() -> None:
    ended = threading.Event()

    async def slow() -> None:
        try:
            await asyncio.sleep(30.0)
        finally:
            ended.set()

    with ServiceLoop() as loop:
        began_s = time.monotonic()
        with pytest.raises(TimeoutError):
            loop.run(slow(), 0.05)
        assert time.monotonic() - began_s < 1.0
        assert ended.wait(1.0)


def test_a_spawned_task_counts_until_it_is_done() -> None:
    with ServiceLoop() as loop:
        gate = asyncio.Event()

        async def reaction() -> None:
            await gate.wait()

        loop.spawn(reaction(), "reaction")
        assert not loop.activity.is_quiet
        with pytest.raises(BenchError, match="reaction"):
            loop.activity.wait_quiet(0.02)
        loop.call(gate.set)
        loop.activity.wait_quiet(5.0)


def test_a_task_that_spawns_is_quiet_only_when_its_children_are() -> None:
    done: list[str] = []
    with ServiceLoop() as loop:

        async def child() -> None:
            await asyncio.sleep(0.03)
            done.append("child")

        async def parent() -> None:
            loop.spawn(child(), "child")
            done.append("parent")

        loop.spawn(parent(), "parent")
        loop.activity.wait_quiet(5.0)
        assert done == ["parent", "child"]


def test_a_spawned_failure_is_raised_on_the_bench_thread_once() -> None:
    async def fail() -> None:
        raise RuntimeError("no such connector")

    with ServiceLoop() as loop:
        loop.spawn(fail(), "fail")
        loop.activity.wait_quiet(5.0)
        with pytest.raises(RuntimeError, match="no such connector"):
            loop.raise_failures()
        loop.raise_failures()


def test_the_loop_refuses_to_wait_for_itself() -> None:
    async def nothing() -> None:
        return None

    with ServiceLoop() as loop:
        with pytest.raises(BenchError, match="cannot wait for itself"):
            loop.call(lambda: loop.run(nothing(), 1.0))
        with pytest.raises(BenchError, match="cannot wait for itself"):
            loop.call(loop.close)
        assert loop.call(lambda: 42) == 42


def test_a_closed_loop_says_so_and_counts_nothing() -> None:
    async def nothing() -> None:
        return None

    loop = ServiceLoop()
    for _ in range(2):
        with pytest.raises(NotOpenError, match="the service loop is closed"):
            loop.run(nothing(), 1.0)
        with pytest.raises(NotOpenError, match="the service loop is closed"):
            loop.spawn(nothing(), "nothing")
        with pytest.raises(NotOpenError, match="the service loop is closed"):
            _ = loop.thread_id
        assert loop.activity.is_quiet
        with loop:
            pass
        loop.close()


def test_closing_cancels_what_still_runs_and_uncounts_it() -> None:
    cancelled = threading.Event()

    async def endless() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600.0)
        cancelled.set()

    with ServiceLoop() as loop:
        loop.spawn(endless(), "endless")
        time.sleep(0.02)
    assert cancelled.is_set()
    assert loop.activity.is_quiet
    assert names() == []
