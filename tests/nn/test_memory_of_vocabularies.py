"""The peak memory of an update with a large vocabulary, measured in a process of its own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "vocabulary.py"
# Eight windows of 512 tokens: a number for each place and token is 0.8 GB, and about ten are made.
SETTINGS = ("--width", "256", "--length", "512", "--batch", "8", "--updates", "1")


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["encoder", "two-sided"])
def test_an_update_of_fifty_thousand_tokens_stays_under_two_and_a_half_gigabytes(architecture):
    command = [sys.executable, str(BENCHMARK), "--sizes", "50257", *SETTINGS]
    done = subprocess.run(
        [*command, "--architecture", architecture], check=True, capture_output=True, text=True
    )
    row = re.search(r"^\| 50,257 \| [\d.]+ \| ([\d.]+) \|$", done.stdout, re.MULTILINE)
    assert row is not None, done.stdout
    # Below half a gigabyte the weights and their moments alone would not fit.
    assert 0.5 < float(row[1]) < 2.5
