"""Progress without a terminal: now and then a line with loss, speed and time left."""

import math
import re
from itertools import pairwise

import pytest

from stochloc.training.progress import ProgressDisplay

FIRST, LAST = 10, 110


@pytest.fixture
def lines(capsys, monkeypatch):
    """What a resumed run of 100 updates of half a second and 64 tokens each says."""
    clock = [1000.0]
    monkeypatch.setattr("stochloc.training.progress.time.monotonic", lambda: clock[0])
    with ProgressDisplay(FIRST, LAST, 64, "noisy token") as display:
        for step in range(FIRST + 1, LAST + 1):
            clock[0] += 0.5
            display.update(step, 3 * math.log(2))
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err.splitlines()


def test_the_first_update_is_told_and_then_every_tenth_of_the_run(lines):
    steps = [int(re.match(r"step (\d+)/110: ", line).group(1)) for line in lines]
    assert steps[0] == FIRST + 1
    for before, after in pairwise(steps):
        assert LAST // 10 <= after - before <= LAST // 10 + 1
    assert steps[-1] >= LAST - 11


def test_a_line_gives_loss_speed_and_the_time_left_at_the_speed_of_this_process(lines):
    told = "loss 2.079 nats = 3.000 bits per noisy token, 128 tokens/s"
    step = int(re.match(r"step (\d+)/", lines[3]).group(1))
    assert lines[0] == f"step 11/110: {told}, 50 s left"
    assert lines[3] == f"step {step}/110: {told}, {0.5 * (LAST - step):.0f} s left"


def test_a_process_that_is_not_the_first_is_silent(capsys):
    with ProgressDisplay(0, 10, 64, "token", visible=False) as display:
        display.update(5, 1.0)
        display.say("a sample")
    assert capsys.readouterr() == ("", "")


def test_what_is_said_is_printed_as_it_is_however_long_and_whatever_its_signs(capsys):
    sample = "[bold]and[/bold] [/x] 12 :smile:" + 40 * " words"
    with ProgressDisplay(0, 10, 64, "token") as display:
        display.say(sample)
    assert capsys.readouterr().err == sample + "\n"
