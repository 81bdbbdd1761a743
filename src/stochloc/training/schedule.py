"""The learning rate over training: one function of progress, for runs and for comparisons."""

import math

from stochloc.training.recipes import TrainingConfig


def learning_rate(config: TrainingConfig, progress: int | float) -> float:
    """Return the learning rate of an update: linear warm-up, then cosine decay to 0.

    It depends only on the length of the run and the progress. A run that is made longer continues
    along the curve of its new length: a rate that had fallen to 0 jumps up to that curve.

    Args:
        config: Gives the peak, the warm-up and the number of updates.
        progress: Progress before this update, in `[0, num_steps]`: for a run its number of updates,
            for a trial with another budget the share used, times `num_steps`.

    Returns:
        The learning rate.
    """
    warmup = min(1.0, (progress + 1) / max(config.warmup_steps, 1))
    decay = 0.5 * (1 + math.cos(math.pi * progress / config.num_steps))
    return config.learning_rate * warmup * decay
