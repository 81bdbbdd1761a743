"""Turns: equal time for all, a slow reader computes nothing, who leaves ends at once."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
import torch
from torch import nn

from stochloc.app.turns import (
    MOST_LARGE,
    MOST_WAITING,
    SLICE_S,
    BusyError,
    ClientLeft,
    Ended,
    Turns,
)


class Slow(nn.Module):
    """A part of a network that takes its time, without the processor."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def forward(self, x):
        time.sleep(self.seconds)
        return x


def calls_of(turns, module, num=10**6, waits=False):
    """A job that calls a network, and tells after every call."""
    turns.share(module)

    def work(job):
        for number in range(num):
            module(torch.zeros(1))
            if waits:
                job.emit(number)
            else:
                job.done = number + 1

    return work


def in_a_loop_of_its_own(work):
    """Run a coroutine in a thread: tests of the browser leave a loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result()


async def drained(job):
    items = []
    with suppress(Ended):
        while True:
            items.append(await job.next())
    return items


async def idle(turns):
    async with asyncio.timeout(10):
        while turns.running:
            await asyncio.sleep(0.001)


def test_a_job_emits_in_order_and_ends():
    async def main():
        turns = Turns(2)
        job = turns.start(calls_of(turns, Slow(0), 3 * MOST_WAITING, waits=True))
        assert await drained(job) == list(range(3 * MOST_WAITING))
        await idle(turns)

    in_a_loop_of_its_own(main())


def test_what_ends_a_job_is_raised_where_it_is_read():
    def fails(job):
        job.emit(1)
        raise KeyError("x")

    async def main():
        job = Turns(1).start(fails)
        assert await job.next() == 1
        with pytest.raises(KeyError):
            await job.next()

    in_a_loop_of_its_own(main())


def test_long_calls_and_short_calls_get_equal_time():
    async def main():
        turns = Turns(4)
        kinds = (0.04, 0.005, 0.005)
        jobs = [turns.start(calls_of(turns, Slow(seconds))) for seconds in kinds]
        await asyncio.sleep(1.5)
        used = [job.used_s for job in jobs]
        for job in jobs:
            job.leave()
        await idle(turns)
        # One long call and a slice are how far they can be apart.
        assert max(used) - min(used) < 2 * (max(kinds) + SLICE_S)
        assert sum(used) > 1

    in_a_loop_of_its_own(main())


def test_only_one_job_computes_at_a_time():
    inside, most = [], []

    class Alone(nn.Module):
        def forward(self, x):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.002)
            inside.pop()
            return x

    async def main():
        turns = Turns(8)
        jobs = [turns.start(calls_of(turns, Alone(), 20)) for _ in range(8)]
        for job in jobs:
            assert await drained(job) == []

    in_a_loop_of_its_own(main())
    assert len(most) == 160
    assert max(most) == 1


def test_a_newcomer_waits_for_a_call_and_not_for_the_others_to_end():
    async def main():
        turns = Turns(8)
        old = [turns.start(calls_of(turns, Slow(0.02))) for _ in range(4)]
        await asyncio.sleep(0.5)
        began = time.monotonic()
        new = turns.start(calls_of(turns, Slow(0), 1, waits=True))
        assert await new.next() == 0
        waited = time.monotonic() - began
        for job in old:
            job.leave()
        await idle(turns)
        # Once round all four is the worst; on a busy machine sleeps are longer.
        assert waited < 1

    in_a_loop_of_its_own(main())


def test_a_client_that_does_not_read_lets_its_job_compute_nothing():
    async def main():
        turns, module, calls = Turns(2), Slow(0), []
        module.register_forward_hook(lambda *_: calls.append(1))
        job = turns.start(calls_of(turns, module, waits=True))
        await asyncio.sleep(0.3)
        assert len(calls) == MOST_WAITING + 1
        other = turns.start(calls_of(turns, Slow(0), 1, waits=True))
        assert await drained(other) == [0]
        job.leave()
        await idle(turns)

    in_a_loop_of_its_own(main())


def test_a_job_whose_client_leaves_makes_no_further_call():
    async def main():
        turns, module, calls = Turns(1), Slow(0.01), []
        module.register_forward_hook(lambda *_: calls.append(1))
        job = turns.start(calls_of(turns, module))
        await asyncio.sleep(0.1)
        job.leave()
        seen = len(calls)
        await idle(turns)
        assert seen > 1
        assert len(calls) <= seen + 1
        with pytest.raises(ClientLeft):
            await drained(job)

    in_a_loop_of_its_own(main())


def test_no_more_jobs_run_than_may_and_places_come_free():
    async def main():
        turns = Turns(2)
        jobs = [turns.start(calls_of(turns, Slow(0.001))) for _ in range(2)]
        with pytest.raises(BusyError):
            turns.start(calls_of(turns, Slow(0)))
        jobs[0].leave()
        async with asyncio.timeout(10):
            while turns.running == 2:
                await asyncio.sleep(0.001)
        jobs.append(turns.start(calls_of(turns, Slow(0.001))))
        turns.leave_all()
        await idle(turns)

    in_a_loop_of_its_own(main())


def test_few_jobs_of_large_calls_begin_at_a_time_and_others_pass_them():
    began = []

    async def main():
        turns, gate = Turns(20), threading.Event()

        def large(job):
            began.append(job)
            while not gate.is_set():
                job.check()
                turns.give(job)
                time.sleep(0.001)
                turns.take(job)

        jobs = [turns.start(large, is_large=True) for _ in range(MOST_LARGE + 3)]
        small = turns.start(calls_of(turns, Slow(0), 1, waits=True))
        assert await drained(small) == [0]
        await asyncio.sleep(0.1)
        assert len(began) == MOST_LARGE
        gate.set()
        for job in jobs:
            await drained(job)
        assert len(began) == MOST_LARGE + 3

    in_a_loop_of_its_own(main())
