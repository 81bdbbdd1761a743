"""Windows that a thread draws ahead are those that would have been drawn."""

import threading
import time

import pytest
import torch

from stochloc.training.recipes import TrainingConfig
from stochloc.training.windows import AHEAD, SeededWindows, WindowsAhead

CPU = torch.device("cpu")
CONFIG = TrainingConfig(length=5, batch_size=4, num_steps=9)


def drawing(noted=None):
    def draw(rows, length, generator):
        if noted is not None:
            noted.append(threading.current_thread())
        return torch.randint(1000, (rows, length), generator=generator)

    return draw


@pytest.mark.parametrize("order", [range(9), (0, 1, 5, 6, 2, 2, 3), (8,)])
def test_windows_drawn_ahead_are_those_drawn_when_asked_for_in_any_order(order):
    plain = SeededWindows(drawing(), CONFIG)
    ahead = WindowsAhead(plain, CPU, 9)
    for update in order:
        assert torch.equal(ahead.of(update), plain.of(update))
        assert ahead.of(update).shape == (4, 5)


def test_the_windows_of_the_next_updates_are_drawn_by_another_thread_and_none_behind_the_end():
    noted = []
    ahead = WindowsAhead(SeededWindows(drawing(noted), CONFIG), CPU, 9)
    ahead.of(0)
    deadline = time.monotonic() + 10
    while len(noted) < 1 + AHEAD and time.monotonic() < deadline:
        time.sleep(0.001)
    main = threading.main_thread()
    assert [thread is main for thread in noted].count(True) == 1
    for update in range(1, 9):
        ahead.of(update)
    assert len(noted) == 9
    assert [thread is main for thread in noted].count(True) == 1


def test_what_a_draw_refuses_is_raised_where_its_windows_are_used():
    def draw(rows, length, generator):
        raise ValueError("the text ends here")

    ahead = WindowsAhead(SeededWindows(draw, CONFIG), CPU, 9)
    for _ in range(2):
        with pytest.raises(ValueError, match="ends here"):
            ahead.of(0)


def test_updates_and_seeds_have_windows_of_their_own():
    windows = [
        SeededWindows(drawing(), TrainingConfig(length=5, batch_size=4, seed=seed)).of(n)
        for seed in range(2) for n in range(2)
    ]  # fmt: skip
    assert len({tuple(own.flatten().tolist()) for own in windows}) == 4
