"""The measured step costs beside a model, and the paths they make."""

import shlex
from pathlib import Path as FilePath

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from stochloc.core import Apart, Interleaved, Path, StepCosts
from stochloc.tasks.paths import named_path
from stochloc.tasks.runs import Run
from stochloc.training.checkpoint import replacing

# Shares of known tokens that a tuned path may visit.
PATH_SHARES = 128
# The order in which they become known; all shares are unions of its groups.
ORDER = Apart(PATH_SHARES)


def keep_costs(costs: StepCosts, run: Run, transition: str) -> None:
    """Write step costs into a run's folder.

    Args:
        costs: What was measured.
        run: The model.
        transition: Name of the transition whose steps were measured.
    """
    with replacing(costs_file(run, transition)) as path:
        save_file(dict(vars(costs)), path)


def tuned_path(run: Run, transition: str, num_steps: int) -> Interleaved:
    """Return the best path of at most N steps for a model.

    Args:
        run: The model.
        transition: Name of the transition of the walk.
        num_steps: N, at least 1.

    Returns:
        The path.

    Raises:
        ValueError: The model has not been tuned for this transition, or the file is damaged.
    """
    path = costs_file(run, transition)
    if not path.is_file():
        tune = ["stochloc", "tune", str(run.folder), "--transition", transition]
        if run.checkpoint != "best":
            tune += ["--checkpoint", run.checkpoint]
        raise ValueError(
            f"{run.folder} has no path tuned for {transition} steps; make one with: "
            f"{shlex.join(tune)}"
        )
    try:
        return StepCosts(**load_file(path)).refined(PATH_SHARES).best_path(num_steps, ORDER)
    except (SafetensorError, TypeError) as error:
        raise ValueError(f"{path} is damaged; run stochloc tune again.") from error


def path_for(
    run: Run, name: str, transition: str, num_steps: int, continuous: bool = False
) -> Path:
    """Return the path with a name that commands use, the model's own tuned one included.

    Args:
        run: The model.
        name: One of `names.PATHS`, or "tuned".
        transition: Name of the transition of the walk.
        num_steps: Steps of the walk.
        continuous: Whether the path is for a line integral.

    Returns:
        The path.

    Raises:
        ValueError: There is no such path, or the model has not been tuned.
    """
    if name == "tuned":
        return tuned_path(run, transition, num_steps)
    return named_path(name, continuous)


def costs_file(run: Run, transition: str) -> FilePath:
    """Return the file of the step costs of a model, whether it was tuned or not.

    Args:
        run: The model.
        transition: Name of the transition whose steps were measured.
    """
    return run.beside(f"spread_costs_{transition}.safetensors")
