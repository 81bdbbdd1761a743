"""The card of a model, README.md in its folder: what it is, what it was trained on, how to load it.

Figures are those that were measured: the held-out bound of the weights in training, and any that a
user has kept of `stochloc eval --json`. Each is told with its standard error and what it is.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stochloc.tasks.json_files import read_json
from stochloc.tasks.runs import RECIPE, Run
from stochloc.training.metrics import METRICS

CARD = "README.md"
# A card with this line was written here, and is written anew; without it, it is the user's own.
MARK = "<!-- Written by stochloc push; without this line it is yours and stays as it is. -->"
_FIGURES = ("bits_per_token", "path", "estimator", "sequences")


def without_folders(text: str) -> str:
    """Return a text with the file names alone of the absolute paths in it, for others to read.

    Args:
        text: A name of data or of a run, or several, as in `A=/home/me/a.txt,B=~/b.txt`.

    Returns:
        The same with `A=a.txt,B=b.txt`; relative paths and names stay as they are.
    """
    return re.sub(r"(^|[=, ])[~/][^=, ]*/(?=[^/])", r"\1", text)


def read_figures(path: Path) -> dict[str, Any]:
    """Return the figures of an evaluation that a user has kept.

    Args:
        path: A file with what `stochloc eval --json` printed.

    Returns:
        Its values.

    Raises:
        ValueError: It is no such file.
    """
    if not path.is_file():
        raise ValueError(f"There is no file {path}; keep one with: stochloc eval RUN --json.")
    values = read_json(path)
    if not (set(_FIGURES) <= values.keys() and isinstance(values["bits_per_token"], float)):
        raise ValueError(f"{path} is not what stochloc eval --json prints; give one that is.")
    return values


def card(
    run: Run, name: str, license_name: str | None, figures: Sequence[Mapping[str, Any]]
) -> str:
    """Return the text of a model card.

    Args:
        run: The run.
        name: Its name on the hub, `owner/name`.
        license_name: Its license, as the hub names it; None for none.
        figures: Results of evaluations, as `read_figures` returns them.

    Returns:
        Markdown with the metadata that the hub reads.
    """
    metadata = ["library_name: stochloc", "tags:", "- stochastic-localization"]
    if license_name is not None:
        metadata.append(f"license: {json.dumps(license_name)}")
    measured = [_held_out(run), *(_evaluated(values) for values in figures)]
    rows = [f"| {left} | {right} |" for left, right in _facts(run).items()]
    return "\n".join([
        "---", *metadata, "---", MARK, "", f"# {name.partition('/')[2]}", "",
        "A model of discrete sequences for the Python library stochloc, which "
        "scores, samples, fills and corrects text with it along any path: from left to right, by "
        "unmasking, by diffusion.", "",
        "| | |", "|---|---|", *rows, "",
        "## Figures", "", *[f"- {line}" for line in measured if line], "",
        "## Use", "", "```sh", f"stochloc sample {name}",
        f"stochloc score {name} FILE", f"stochloc pull {name} --out RUN    # a copy of one's own",
        "```", "", "```python", "import stochloc", "", f'run = stochloc.open_run("{name}")',
        'print(stochloc.score(run, ["a line of text"]).lines[0].nats)', "```", "",
    ])  # fmt: skip


def _facts(run: Run) -> dict[str, str]:
    config, training = run.model.config, run.recipe.training
    steps = training.num_steps if run.progress is None else run.progress.step
    best = None if run.progress is None else run.progress.best
    facts = {
        "network": f"{config.architecture}, {config.depth} blocks of width {config.width}, "
        f"{run.model.num_parameters:,} parameters",
        "tokens": f"{config.vocabulary_size} ({run.tokenizer.to_dict()['kind']})",
        "window": f"{run.length} tokens",
        "trained on": ", ".join(
            f"{part}: `{without_folders(text)}`" for part, text in run.data.named().items()
        ),
        "training": f"{steps:,} updates of {training.batch_size} windows, "
        f"{type(training.law).__name__} signal-to-noise ratios, seed {training.seed}",
    }
    if best is not None:
        facts["weights"] = f"averaged, after {best.step:,} updates: the best held-out bound"
    source = read_json(run.folder / RECIPE).get("from")
    if isinstance(source, dict):
        facts["began with"] = f"the weights of `{without_folders(str(source.get('run')))}`"
    return facts


def _held_out(run: Run) -> str:
    """Return the bound of the weights on held-out text in training; "" if none was kept."""
    best = None if run.progress is None else run.progress.best
    record = None if best is None else _record(run.folder / METRICS, best.step)
    if record is None:
        return "No held-out bound was measured in training."
    return (
        f"Held-out text in training: {_with_error(record)} bits per token, a bound on the "
        f"{record['path']} path; counted: {record['counted']}."
    )


def _record(path: Path, step: int) -> dict[str, Any] | None:
    """Return what was measured on held-out text after an update."""
    if not path.exists():
        return None
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            values = json.loads(line)
            if values["step"] == step and {"valid_bits_per_token", "path"} <= values.keys():
                return {**values, "bits_per_token": values["valid_bits_per_token"]}
        except (ValueError, KeyError, TypeError, AttributeError):  # cut off as it was written
            continue
    return None


def _evaluated(values: Mapping[str, Any]) -> str:
    path = values["path"] or f"policy {values.get('policy')}"
    text = without_folders(str(values.get("text", "evaluated")))
    return (
        f"{text}: {_with_error(values)} bits per token, {values['estimator']}, {path} path, "
        f"{values['sequences']} windows."
    )


def _with_error(values: Mapping[str, Any]) -> str:
    error = values.get("stderr")
    spread = f" ± {error:.3f}" if isinstance(error, float) else ""
    return f"{values['bits_per_token']:.3f}{spread}"
