"""How to walk in infilling, from what the user named."""

from stochloc.tasks.policies import PolicyChoice
from stochloc.tasks.runs import Run
from stochloc.tasks.solving import solving
from stochloc.tasks.walks import Walk, WalkSettings, path_and_steps

MOST_TO_SOLVE = 500


def chosen_walk(
    run: Run,
    path: str | None = None,
    steps: int | None = None,
    policy: str = "path",
    transition: str = "ancestral",
    temperature: float = 1.0,
    top_p: float = 1.0,
    all_different: bool = False,
) -> Walk:
    """Return the walk that draws the answers.

    Args:
        run: The model.
        path: Name of the path; None for the default of a window.
        steps: Steps of the walk; None for the default.
        policy: Name of the policy.
        transition: Name of the transition.
        temperature: Sharpens or flattens every posterior.
        top_p: Keeps the fewest likeliest values of this probability.
        all_different: Whether tokens that share a coordinate must differ; then the policy decides
            the surest first and takes back what breaks the rule, for up to 500 steps by default.

    Returns:
        The walk.

    Raises:
        ValueError: There is no such path, policy or transition, or the model has no coordinates.
    """
    if all_different and steps is None:
        steps = MOST_TO_SOLVE
    path, steps = path_and_steps(path, steps, run, run.text_length)
    settings = WalkSettings(path, transition, steps, PolicyChoice(policy), temperature, top_p=top_p)
    walk = settings.resolve(run)
    return solving(walk, run.model.config) if all_different else walk
