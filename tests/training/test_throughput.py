"""Tokens per second are counted, and operations are those of the matrices."""

import itertools

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from stochloc.nn import LocalizationModel, ModelConfig
from stochloc.training.objective import cross_entropy
from stochloc.training.snr import SentenceLogNormal
from stochloc.training.throughput import (
    Throughput,
    device_peak,
    operations_per_token,
    peak_of,
    throughput_of,
)


@pytest.mark.bulk
@pytest.mark.parametrize("architecture", ["encoder", "two-sided", "dit"])
def test_operations_are_those_that_torch_counts_in_an_update_but_for_small_ones(architecture):
    """Torch counts the products; causal attention it counts whole too."""
    length, config = 32, ModelConfig(20, 64, 4, 2, architecture=architecture)
    model = LocalizationModel(config)
    torch.nn.init.normal_(model.head)
    tokens = torch.randint(20, (3, length), generator=torch.Generator().manual_seed(0))
    with FlopCounterMode(display=False) as counter:
        law, noise = SentenceLogNormal(), torch.Generator().manual_seed(0)
        cross_entropy(model, tokens, law, noise).backward()
    counted = counter.get_total_flops() / tokens.numel()
    assert operations_per_token(model, length) == pytest.approx(counted, rel=0.1)


def test_a_device_is_known_by_all_words_of_its_name_and_others_are_not():
    names = {
        "NVIDIA A100-SXM4-80GB": 312e12, "NVIDIA H100 80GB HBM3": 989e12,
        "NVIDIA H100 PCIe": 756e12, "NVIDIA L4": 121e12, "NVIDIA A10G": None, "NVIDIA A10": 125e12,
        "NVIDIA GeForce RTX 4090": 165e12, "Tesla T4": None, "": None,
    }  # fmt: skip
    assert {name: peak_of(name) for name in names} == names
    assert device_peak(torch.device("cpu")) is None


def test_tokens_per_second_and_shares_are_those_since_the_last_line(monkeypatch):
    clock = itertools.count(0, 2)
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    speed = Throughput(100, 1e-3, step=3)
    assert speed.record(5) == {"tokens_per_s": 100.0, "share_of_peak": 0.1}
    speed.begin(9)
    assert speed.record(10)["tokens_per_s"] == 50.0
    model = LocalizationModel(ModelConfig(5, 8, 1, 2))
    assert set(throughput_of(model, 8, 2, 1, 0).record(1)) == {"tokens_per_s"}
