"""Which weights of a run are used, and what a user is told of them.

A run keeps two sets of averaged weights: those of its best held-out bound and those of its last
save. The last have been trained further, so they are used unless a held-out bound that was measured
later than the best one was no better.
"""

from pathlib import Path

from safetensors import safe_open

from stochloc.names import CheckpointName
from stochloc.nn import LocalizationModel
from stochloc.nn.weights import check_finite, check_shapes, read_shapes
from stochloc.training.checkpoint import FILE_NAME, Progress
from stochloc.training.metrics import newest_bound


def weights_to_use(folder: Path, progress: Progress | None) -> CheckpointName:
    """Return which weights of a run are used when the user names none.

    Args:
        folder: The run's folder.
        progress: The progress of its training; None if it was not stored.

    Returns:
        "last" if updates were made since the best held-out bound and none was measured after it;
        else "best".
    """
    best = None if progress is None else progress.best
    if progress is None or best is None or best.step == progress.step:
        return "best"
    return "last" if newest_bound(folder, progress.step) == best.step else "best"


def load_last(model: LocalizationModel, folder: Path) -> None:
    """Load the averaged weights of a checkpoint into a model, after checking their shapes.

    Args:
        model: Of the shape of the run's model.
        folder: The run's folder.

    Raises:
        ValueError: There is no checkpoint, or its weights have other shapes or are not finite.
    """
    path, prefix = folder / FILE_NAME, "average."
    if not path.is_file():
        raise ValueError(f"there is no {FILE_NAME}, which would hold the last weights")
    shapes = {
        name.removeprefix(prefix): shape
        for name, shape in read_shapes(path).items()
        if name.startswith(prefix)
    }
    check_shapes(shapes, lambda: LocalizationModel(model.config), model.config.depth)
    with safe_open(path, framework="pt") as file:
        model.load_state_dict({name: file.get_tensor(prefix + name) for name in shapes})
    check_finite(model)


def weights_used(progress: Progress, checkpoint: CheckpointName) -> str | None:
    """Return which weights of a run are used, in words.

    Args:
        progress: The progress of the run.
        checkpoint: Which weights are used.

    Returns:
        The beginning of a sentence; None where the best are the last.
    """
    best = progress.best
    if best is None or best.step == progress.step:
        return None
    if checkpoint == "last":
        return f"the weights are the last, of step {progress.step}"
    return (
        f"the weights are the best on validation text, of step {best.step} "
        f"({best.valid_bits_per_token:.3f} bits per token)"
    )


def note_on_weights(progress: Progress, checkpoint: CheckpointName) -> str | None:
    """Return a note about a run's weights for the user.

    Args:
        progress: The progress of the run.
        checkpoint: Which weights are used.

    Returns:
        One sentence, which names the flag that takes the others; None where the best are the last.
    """
    used, best = weights_used(progress, checkpoint), progress.best
    if used is None or best is None:
        return None
    if checkpoint == "last":
        return (
            f"{used}; --checkpoint best takes the best on validation text, of step {best.step} "
            f"({best.valid_bits_per_token:.3f} bits per token)."
        )
    return f"{used}; --checkpoint last takes those of step {progress.step}."
