"""The held-out bound of a training run, as a line of its metrics.

It is measured in float32 along the masked path, on the same windows or sequences with the same
noise every time, so that bounds of one run differ by less than the standard error of each.
Sequences of different length are never in one batch, so none has a place without a token.
"""

import math
from typing import Any

import torch
from torch import Tensor

from stochloc.core import UNKNOWN, Masked, line_integral
from stochloc.core.standard_errors import ratio_stderr
from stochloc.data.codepoints import count_characters
from stochloc.nn import LocalizationModel
from stochloc.training.recipes import TrainingConfig
from stochloc.training.seeds import seeded_streams
from stochloc.training.texts import TrainingData


# A large vocabulary is computed block by block where it is asked, and graphs would keep all blocks.
@torch.no_grad()
def held_out_record(
    model: LocalizationModel, texts: TrainingData, config: TrainingConfig, step: int
) -> dict[str, Any]:
    """Return the held-out bound of a model and a sample of it.

    Args:
        model: The model, with averaged weights.
        texts: The held-out text, and how a sample is drawn.
        config: Gives the windows and the seed of the noise.
        step: Number of updates done.

    Returns:
        JSON values. The bound is in bits per token of text; its standard error, over blocks of
        windows, is None for fewer than two. The same bits per character and per byte, by which
        models of different tokens are compared, are None where tokens stand for no text. Takes 8
        denoiser calls for every batch of rows.
    """
    device = next(model.parameters()).device
    numbers, nats, counts, raw = [], [], [], list[bytes]()
    for same in texts.held_out(config.length, config.eval_sequences):
        names = [(0, 0, 2, number) for number in same.numbers.tolist()]
        # A batch of shorter rows holds more of them, at the same number of tokens.
        size = max(1, config.batch_size * config.length // same.tokens.shape[1])
        for begin in range(0, len(names), size):
            rows = same.tokens[begin : begin + size].to(device)
            streams = seeded_streams(device, config.seed, names[begin : begin + size])
            known = texts.given_in(rows)
            nats.append(line_integral(model, rows, Masked(), 8, streams, known).values.cpu())
            counts.append((known == UNKNOWN).sum(-1).cpu())
        numbers.append(same.numbers)
        raw += map(texts.bytes_of, same.tokens)
    order = torch.cat(numbers).argsort()
    bits, sizes = torch.cat(nats)[order] / math.log(2), torch.cat(counts)[order]
    stderr = float(ratio_stderr(bits, sizes))
    return {
        "step": step,
        "valid_bits_per_token": float(bits.sum() / sizes.sum()),
        "stderr": None if math.isnan(stderr) else stderr,
        "valid_bits_per_character": _per(bits, sum(map(count_characters, raw))),
        "valid_bits_per_byte": _per(bits, sum(map(len, raw))),
        "counted": texts.counted,
        "path": "masked",
        "sample": texts.say_sample(model),
    }


def _per(bits: Tensor, number: int) -> float | None:
    return float(bits.sum() / number) if number else None
