"""Discrete stochastic localization: walks through per-token signal-to-noise ratios.

What most programs want are six calls about a trained model:

    run = stochloc.open_run("runs/mine")      a model with its tokenizer, from a folder or the hub
    stochloc.generate(run, ...)               texts
    stochloc.infill(run, "the ____ sea")      what fills the blanks, the most probable first
    stochloc.correct(run, "teh sea")          a text without its errors
    stochloc.score(run, ["the sea"])          bits of every line and token
    stochloc.evaluate(run, tokens, ...)       a bound on the bits per token of a long text

Each is imported when it is first asked for, so `import stochloc` itself costs nothing. The
mathematics is in `stochloc.core`, which runs with any denoiser.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from stochloc.version import __version__ as __version__

if TYPE_CHECKING:
    from stochloc.tasks.correct.correct import correct
    from stochloc.tasks.evaluate import evaluate
    from stochloc.tasks.generate import generate
    from stochloc.tasks.infill.fill import infill
    from stochloc.tasks.runs import open_run
    from stochloc.tasks.score import score

__all__ = ["correct", "evaluate", "generate", "infill", "open_run", "score"]

_MODULES = {
    "correct": "stochloc.tasks.correct.correct",
    "evaluate": "stochloc.tasks.evaluate",
    "generate": "stochloc.tasks.generate",
    "infill": "stochloc.tasks.infill.fill",
    "open_run": "stochloc.tasks.runs",
    "score": "stochloc.tasks.score",
}
# Names that are tried in place of these, as the commands or other libraries have them.
_INSTEAD = {
    "eval": "evaluate",
    "fill": "infill",
    "load": "open_run",
    "open": "open_run",
    "sample": "generate",
}


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    offered = f"it offers {', '.join(__all__)}; for the parts, import stochloc.core"
    hint = f"use {__name__}.{_INSTEAD[name]}" if name in _INSTEAD else offered
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}: {hint}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
