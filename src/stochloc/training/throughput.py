"""How fast a run trains: tokens per second and, where the device is known, the share of its peak.

A multiplication by a matrix of n numbers takes 2 n operations for a token and twice as many for its
gradients; attention takes 12 L W more for each block of width W on windows of L (Chowdhery et al.
2022, PaLM, appendix B, which counts causal attention whole too). The share is that of the dense
bfloat16 products that the device's maker states, whatever the precision of the run.
"""

import time
from typing import Any

import torch

from stochloc.nn import LocalizationModel

# Dense bfloat16 products, in operations per second: data sheets of NVIDIA (A100, A30, A10, H100,
# H200, L4, L40S) and its paper on the Ada architecture (4090). A name has all words of its line.
PEAKS: dict[tuple[str, ...], float] = {
    ("H100", "PCIe"): 756e12,
    ("H100", "NVL"): 835e12,
    ("H100",): 989e12,
    ("H200",): 989e12,
    ("A100",): 312e12,
    ("A30",): 165e12,
    ("A10",): 125e12,
    ("L40S",): 362e12,
    ("L4",): 121e12,
    ("4090",): 165e12,
}


def peak_of(name: str) -> float | None:
    """Return the dense bfloat16 operations per second of a device.

    Args:
        name: As `torch.cuda.get_device_name` gives it.

    Returns:
        The peak; None if it is not known.
    """
    words = name.replace("-", " ").split()
    matches = (peak for own, peak in PEAKS.items() if set(own) <= set(words))
    return next(matches, None)


def device_peak(device: torch.device) -> float | None:
    """Return the peak of a device: see `peak_of`; None for CPUs."""
    return peak_of(torch.cuda.get_device_name(device)) if device.type == "cuda" else None


def operations_per_token(model: LocalizationModel, length: int) -> float:
    """Return the operations of an update for each of its tokens.

    Args:
        model: The model; frozen parts count as learned ones.
        length: Tokens per window, L.

    Returns:
        Multiplications and additions, of forward and backward pass.
    """
    numbers = sum(p.numel() for p in model.parameters() if p.ndim >= 2)
    attention = 12 * length * model.config.width * model.config.depth
    return 6.0 * numbers + attention


class Throughput:
    """Measures updates between two lines of metrics, without bounds and checkpoints.

    Args:
        update_tokens: Tokens of an update, over all processes.
        token_share: Share of all devices' peak that one token per second is; None if not known.
        step: Updates done.
    """

    def __init__(self, update_tokens: int, token_share: float | None, step: int) -> None:
        self.update_tokens, self.token_share = update_tokens, token_share
        self.begin(step)

    def begin(self, step: int) -> None:
        """Start again, behind an update whose numbers have been read."""
        self.step, self.began_s = step, time.monotonic()

    def record(self, step: int) -> dict[str, Any]:
        """Return what a line of metrics says of the updates since the last; then start again.

        Args:
            step: Updates done, whose numbers have been read.

        Returns:
            Tokens per second, and the share of the peak where it is known.
        """
        seconds = max(time.monotonic() - self.began_s, 1e-9)
        rate = (step - self.step) * self.update_tokens / seconds
        self.begin(step)
        share = {} if self.token_share is None else {"share_of_peak": rate * self.token_share}
        return {"tokens_per_s": round(rate, 1), **share}


def throughput_of(
    model: LocalizationModel, length: int, batch_size: int, world_size: int, step: int
) -> Throughput:
    """Return the measure of a run.

    Args:
        model: The model, on its device.
        length: Tokens per window.
        batch_size: Windows per update, over all processes.
        world_size: Number of processes.
        step: Updates done.

    Returns:
        The measure; every process has a device of the same kind.
    """
    peak = device_peak(next(model.parameters()).device)
    share = None if peak is None else operations_per_token(model, length) / (peak * world_size)
    return Throughput(batch_size * length, share, step)
