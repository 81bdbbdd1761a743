"""The held-out bound of a training run, as a line of its metrics.

It is measured in float32 along the masked path, on the same windows with the same noise every time,
so that bounds of one run differ by less than the standard error of each.
"""

import math
from typing import Any

from stochloc.core import UNKNOWN, Estimate, Masked, line_integral
from stochloc.core.standard_errors import ratio_stderr
from stochloc.data import held_out_windows
from stochloc.nn import LocalizationModel
from stochloc.training.recipes import TrainingConfig
from stochloc.training.seeds import seeded_streams
from stochloc.training.texts import Texts


def held_out_record(
    model: LocalizationModel, texts: Texts, config: TrainingConfig, step: int
) -> dict[str, Any]:
    """Return the held-out bound of a model and a sample of it.

    Args:
        model: The model, with averaged weights.
        texts: The held-out text, and how a sample is drawn.
        config: Gives the windows and the seed of the noise.
        step: Number of updates done.

    Returns:
        JSON values. The bound is in bits per token of text; its standard error, over blocks of
        windows, is None for fewer than two. Takes 8 denoiser calls for every batch of windows.
    """
    windows = held_out_windows(texts.valid, config.length, config.eval_sequences)
    device, parts = next(model.parameters()).device, []
    for begin in range(0, len(windows), config.batch_size):
        rows = windows[begin : begin + config.batch_size].to(device)
        names = ((0, 0, 2, begin + row) for row in range(len(rows)))
        streams = seeded_streams(device, config.seed, names)
        known = texts.labels_in(rows)
        parts.append(line_integral(model, rows, Masked(), 8, streams, known))
    bits = Estimate.join(parts).values.cpu() / math.log(2)
    counts = (texts.labels_in(windows) == UNKNOWN).sum(-1)
    stderr = float(ratio_stderr(bits, counts))
    return {
        "step": step,
        "valid_bits_per_token": float(bits.sum() / counts.sum()),
        "stderr": None if math.isnan(stderr) else stderr,
        "counted": texts.counted,
        "path": "masked",
        "sample": texts.say_sample(model),
    }
