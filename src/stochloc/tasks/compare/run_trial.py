"""Running one trial of a comparison, from its start or its last checkpoint to its result.

The folder of a trial holds a checkpoint while it runs and `result.json` when it is finished.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from stochloc.data import Corpus
from stochloc.tasks.compare.judge import Judge
from stochloc.tasks.compare.result import RESULT, Result
from stochloc.tasks.compare.trial import Trial
from stochloc.tasks.compare.trial_run import TrialRun
from stochloc.training.checkpoint import FILE_NAME, replacing
from stochloc.training.interruption import Interruption
from stochloc.training.records import to_json


@contextmanager
def default_type(dtype: torch.dtype) -> Iterator[None]:
    """Change torch's default floating-point type within a block.

    Args:
        dtype: The type.

    Yields:
        Nothing; afterwards the previous default is restored.
    """
    kept = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(kept)


# The same default as in the fresh interpreters of several jobs, whatever the caller has set.
@default_type(torch.float32)
def run_trial(
    trial: Trial,
    corpus: Corpus,
    judge: Judge,
    folder: Path,
    device: torch.device,
    say: Callable[[str], None],
) -> Result:
    """Run a trial to its end, or return its result if it is finished.

    Args:
        trial: The trial.
        corpus: The text for training and evaluation.
        judge: Scores samples.
        folder: The trial's folder; created if it is missing.
        device: Where to compute.
        say: Receives about ten progress messages.

    Returns:
        The result as JSON values; `diverged` if the loss became infinite or NaN.

    Raises:
        ValueError: The folder holds another trial or damaged files.
        OSError: The disk is full; the last checkpoint is intact.
        Stopped: A signal interrupted it; a checkpoint of the last update is saved.
    """
    done = trial.result(folder)
    if done is not None:
        return done
    folder.mkdir(parents=True, exist_ok=True)
    run = TrialRun(trial, corpus, folder, device)
    run.load()
    training, has_diverged = trial.training, False
    next_line = run.share_used + 0.1
    with Interruption() as interruption:
        while run.share_used < 1 and not has_diverged:
            loss = run.update()
            has_diverged = not math.isfinite(loss)
            if run.share_used >= next_line:
                next_line += 0.1
                bits = loss / math.log(2)
                share = min(run.share_used, 1.0)
                say(f"{trial.name}: {share:.0%}, its own loss {bits:.3f} bits")
            if run.step % training.eval_every == 0 and run.share_used < 1:
                run.validate()
            if run.step % training.checkpoint_every == 0 or interruption.signum:
                run.save()
            interruption.check()
        say(f"{trial.name}: measuring")
        with interruption.at_once():
            result = _measure(run, judge, has_diverged)
    with replacing(folder / RESULT) as path:
        path.write_text(to_json(result, indent=2), encoding="utf-8")
    (folder / FILE_NAME).unlink(missing_ok=True)
    return result


def _measure(run: TrialRun, judge: Judge, has_diverged: bool) -> Result:
    trial, training = run.trial, run.trial.training
    result: Result = {
        "trial": trial.to_dict(),
        "diverged": has_diverged,
        "parameters": sum(p.numel() for p in run.method.parameters()),
        "updates": run.step,
        "tokens": run.step * training.batch_size * training.length,
        "seconds": run.seconds,
        "cpu_seconds_per_update": run.cpu_seconds / run.step,
    }
    if not has_diverged:
        run.validate()
        result["curve"] = run.curve
        if not trial.is_short:
            result |= run.score(judge)
    return result
