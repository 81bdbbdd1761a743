"""One trial of a comparison: a method trained at a learning rate from a seed, scored and sampled.

Every trial has a folder with a checkpoint while it runs and `result.json` when it is done. Updates
seed their own generators from the seed and the step, so a trial that was cut off gives the same
figures (up to what a budget of seconds allows), and all methods see the same windows of text.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stochloc.core import Estimate
from stochloc.core.standard_errors import ratio_stderr
from stochloc.data import Corpus, count_tokens, draw_windows, held_out_windows
from stochloc.methods import METHODS, Frame, Method
from stochloc.nn import Backbone
from stochloc.nn.backbones.encoder import Transformer
from stochloc.tasks.compare.judge import Judge
from stochloc.tasks.counting import characters_in
from stochloc.training.checkpoint import FILE_NAME, Checkpoint, flatten, replacing
from stochloc.training.ema import AveragedWeights
from stochloc.training.interruption import Interruption
from stochloc.training.optimizers import make_optimizer
from stochloc.training.recipes import ADAMW, TrainingConfig
from stochloc.training.records import to_json
from stochloc.training.seeds import seeded_generator
from stochloc.training.update import OneProcess, Updates

RESULT = "result.json"
SHOWN_TEXTS = 2


@dataclass(frozen=True)
class Budget:
    """How long a method may train.

    Attributes:
        unit: "updates", "tokens" or "seconds" (of training alone, by the wall clock).
        amount: How many.
    """

    unit: str
    amount: float

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """Return the budget that a text such as `updates=1500` describes.

        Args:
            text: Unit, equals sign, positive amount.

        Returns:
            The budget.

        Raises:
            ValueError: The text describes none.
        """
        unit, _, amount = text.partition("=")
        try:
            value = float(amount)
        except ValueError:
            value = math.nan
        if unit not in ("updates", "tokens", "seconds") or not 0 < value < math.inf:
            raise ValueError(
                f"A budget is updates=N, tokens=N or seconds=N with a positive N, not {text!r}."
            )
        return cls(unit, value)

    def share_used(self, step: int, tokens_per_update: int, seconds: float) -> float:
        """Return which share of the budget is used up, at least 1 at its end.

        Args:
            step: Updates done.
            tokens_per_update: Tokens of each.
            seconds: Time they took.

        Returns:
            The share.
        """
        used = {"updates": step, "tokens": step * tokens_per_update, "seconds": seconds}
        return used[self.unit] / self.amount


@dataclass(frozen=True)
class Scoring:
    """How a trained method is measured.

    Attributes:
        windows: Windows of test text.
        num_samples: Times drawn per window for a bound that is an average over times.
        valid_windows: Windows of validation text, for the choice of the learning rate and curves.
        valid_samples: Times drawn per window there.
        texts: Sequences drawn at each number of steps.
        steps: Numbers of steps.
    """

    windows: int = 192
    num_samples: int = 32
    valid_windows: int = 64
    valid_samples: int = 8
    texts: int = 64
    steps: tuple[int, ...] = (8, 32, 128)

    def __post_init__(self) -> None:
        # Two windows at least, or there are no standard errors.
        for name, least in (
            ("windows", 2), ("num_samples", 1), ("valid_windows", 2), ("valid_samples", 1),
        ):  # fmt: skip
            if getattr(self, name) < least:
                raise ValueError(
                    f"Scoring needs {name} of at least {least}, not {getattr(self, name)}."
                )
        if self.texts < 2:
            raise ValueError(f"A judge needs at least two texts, not {self.texts}.")
        if not self.steps or min(self.steps) < 1:
            raise ValueError("Sampling needs steps: numbers of at least one.")


@dataclass(frozen=True)
class Trial:
    """What is to be trained and measured.

    Attributes:
        method: A name of `methods.METHODS`.
        backbone: The transformer.
        training: Length, batch, learning rate, seed and the rest; its law of γ is not used.
        budget: How long to train.
        scoring: How to measure.
        is_short: Whether it only helps to choose a learning rate.
        half_products: Whether updates round the factors of the transformer's matrix products to
            bfloat16; all else, bounds and samples are computed in float32 and float64.
    """

    method: str
    backbone: Backbone
    training: TrainingConfig
    budget: Budget
    scoring: Scoring = field(default_factory=Scoring)
    is_short: bool = False
    half_products: bool = False

    @property
    def name(self) -> str:
        """Name of its folder."""
        training = self.training
        return trial_name(self.method, self.is_short, training.learning_rate, training.seed)

    def to_dict(self) -> dict[str, Any]:
        """Return the trial as JSON values."""
        training = asdict(self.training)
        del training["law"]
        values = {**asdict(self), "training": training}
        return json.loads(json.dumps(values))

    def result(self, folder: Path) -> dict[str, Any] | None:
        """Return the result of a finished trial, None if it is not finished.

        Args:
            folder: The trial's folder.

        Returns:
            The result.

        Raises:
            ValueError: The folder holds the result of another trial, or a damaged one.
        """
        path = folder / RESULT
        if not path.exists():
            return None
        result = read_result(path)
        if result["trial"] != self.to_dict():
            raise ValueError(
                f"{path} is of a comparison with other settings: choose another --out."
            )
        return result


def read_result(path: Path) -> dict[str, Any]:
    """Return the result of a finished trial.

    Args:
        path: A `result.json`.

    Returns:
        The result.

    Raises:
        ValueError: The file is damaged.
    """
    return parse_result(path.read_bytes(), str(path))


def parse_result(text: bytes, place: str) -> dict[str, Any]:
    """Return the result of a finished trial from its JSON.

    Args:
        text: The JSON, in UTF-8.
        place: Where it was read, for the message if it is damaged.

    Returns:
        The result.

    Raises:
        ValueError: It is damaged.
    """
    try:
        result = json.loads(text.decode("utf-8"))
        training = result["trial"]["training"]
        _ = result["diverged"], result_name(result), training["seed"]
        # Trials from before there was a choice do not name their optimizer.
        training.setdefault("optimizer", ADAMW)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{place} is damaged ({error}); delete it to run it again.") from error
    return result


def result_name(result: dict[str, Any]) -> str:
    """Return the name of the trial that a result is of."""
    trial = result["trial"]
    training = trial["training"]
    return trial_name(
        trial["method"], trial["is_short"], training["learning_rate"], training["seed"]
    )


def trial_name(method: str, is_short: bool, learning_rate: float, seed: int) -> str:
    """Return the name of a trial's folder."""
    kind = "short" if is_short else "full"
    return f"{method}-{kind}-lr{learning_rate:g}-seed{seed}"


class TrialRun:
    """A method at work in a trial.

    Args:
        trial: What to do.
        corpus: What to train on.
        folder: The trial's folder, which exists.
        device: Where to compute.
    """

    def __init__(self, trial: Trial, corpus: Corpus, folder: Path, device: torch.device) -> None:
        self.trial, self.corpus, self.folder, self.device = trial, corpus, folder, device
        size = corpus.tokenizer.vocabulary_size
        counts = torch.from_numpy(count_tokens(corpus.train, size))
        frame = Frame(counts, trial.training.length, trial.backbone)
        torch.manual_seed(trial.training.seed)
        self.method: Method = METHODS[trial.method](frame).to(device)
        for module in self.method.modules():
            if isinstance(module, Transformer):
                module.half_products = trial.half_products
        self.optimizer = make_optimizer(self.method, trial.training, self.method.undecayed())
        self.average = AveragedWeights(self.method, trial.training.ema_decay)
        self.updates = Updates(
            OneProcess(device),
            self.method,
            self.optimizer,
            self.average,
            trial.training,
            self._draw,
            self.method.loss,
        )
        self.seconds, self.cpu_seconds = 0.0, 0.0
        self.curve: list[dict[str, Any]] = []

    @property
    def step(self) -> int:
        """Number of updates done."""
        return self.updates.done

    @property
    def share_used(self) -> float:
        """Share of the budget used up."""
        return self._share_after(self.step)

    def update(self) -> float:
        """Do one update and return its loss, nats per token."""
        started_s, started_cpu_s = time.monotonic(), time.process_time()
        self.method.prepare(min(self._share_after(self.step + 1), 1.0))
        progress = min(self.share_used, 1.0) * self.trial.training.num_steps
        # Asking for the loss waits for the device: the clocks stop after that.
        loss = float(self.updates.update(progress))
        self.seconds += time.monotonic() - started_s
        self.cpu_seconds += time.process_time() - started_cpu_s
        return loss

    def _draw(self, rows: int, length: int, generator: torch.Generator) -> Tensor:
        return draw_windows(self.corpus.train, rows, length, generator)

    def _share_after(self, num_updates: int) -> float:
        training = self.trial.training
        per_update = training.batch_size * training.length
        return self.trial.budget.share_used(num_updates, per_update, self.seconds)

    def validate(self) -> None:
        """Add the bound of the averaged weights on validation text to the curve."""
        scoring, training = self.trial.scoring, self.trial.training
        windows = held_out_windows(self.corpus.valid, training.length, scoring.valid_windows)
        estimate = self._bound(windows, scoring.valid_samples, 2)
        bits, stderr = _bits_per(estimate, torch.full((len(windows),), training.length))
        self.curve.append(
            {
                "tokens": self.step * training.batch_size * training.length,
                "seconds": self.seconds,
                "bits_per_token": bits,
                "stderr": stderr,
            }
        )

    def score(self, judge: Judge) -> dict[str, Any]:
        """Bound test text with the averaged weights, draw samples and have them judged.

        Args:
            judge: An n-gram model of held-out text.

        Returns:
            The figures as JSON values.
        """
        scoring, training = self.trial.scoring, self.trial.training
        tokenizer = self.corpus.tokenizer
        windows = held_out_windows(self.corpus.test, training.length, scoring.windows)
        started_s = time.monotonic()
        estimate = self._bound(windows, scoring.num_samples, 3)
        bits, stderr = _bits_per(estimate, characters_in(tokenizer, windows))
        drawn = []
        for num_steps in scoring.steps:
            generator = seeded_generator(self.device, training.seed, num_steps, 0, 4)
            begun_s = time.monotonic()
            with self.average.in_place():
                sample = self.method.sample(scoring.texts, training.length, num_steps, generator)
            took_s, score = time.monotonic() - begun_s, judge.score(sample.tokens)
            drawn.append(
                {
                    "steps": num_steps,
                    "denoiser_calls": sample.denoiser_calls,
                    "seconds_per_sample": took_s / scoring.texts,
                    "judged": score.judged.mean,
                    "judged_stderr": score.judged.stderr,
                    "entropy": score.entropy.mean,
                    "entropy_stderr": score.entropy.stderr,
                    "texts": [tokenizer.decode(row) for row in sample.tokens[:SHOWN_TEXTS]],
                }
            )
        return {
            "bits_per_character": bits,
            "stderr": stderr,
            "windows": len(windows),
            "denoiser_calls": estimate.denoiser_calls,
            "is_exact": self.method.is_exact,
            "samples": drawn,
            "scoring_seconds": time.monotonic() - started_s,
        }

    def save(self) -> None:
        """Write the checkpoint."""
        state = self.optimizer.state_dict()["state"]
        parts: dict[str, dict[str, Tensor]] = {
            "method": self.method.state_dict(),
            "average": {str(i): value for i, value in enumerate(self.average.averages)},
            "optimizer": flatten(state),
        }
        progress = {"seconds": self.seconds, "cpu_seconds": self.cpu_seconds, "curve": self.curve}
        description = {"trial": self.trial.to_dict(), **progress}
        Checkpoint(self.step, description, flatten(parts)).write(self.folder)

    def load(self) -> None:
        """Continue from the folder's checkpoint, if there is one.

        Raises:
            ValueError: It is damaged or of another trial.
        """
        checkpoint = Checkpoint.read(self.folder)
        if checkpoint is None:
            return
        if checkpoint.description.get("trial") != self.trial.to_dict():
            raise ValueError(
                f"{self.folder} is of a comparison with other settings: choose another --out."
            )
        self.method.load_state_dict(checkpoint.part("method"))
        averages = checkpoint.part("average")
        self.average.averages = [
            averages[str(i)].to(self.device) for i in range(len(self.average.averages))
        ]
        moments = {int(index): moments for index, moments in checkpoint.moments().items()}
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.updates.done = checkpoint.step
        self.seconds = checkpoint.description["seconds"]
        self.cpu_seconds = checkpoint.description["cpu_seconds"]
        self.curve = checkpoint.description["curve"]

    def _bound(self, windows: Tensor, num_samples: int, kind: int) -> Estimate:
        training = self.trial.training
        generator = seeded_generator(self.device, training.seed, 0, 0, kind)
        with self.average.in_place():
            parts = [
                self.method.bound(rows.to(self.device), num_samples, generator)
                for rows in windows.split(training.batch_size)
            ]
        return Estimate.join(parts)


@contextmanager
def default_type(dtype: torch.dtype) -> Iterator[None]:
    """Make torch's default floating type another one for a block.

    Args:
        dtype: The type.

    Yields:
        Nothing; then the type that was the default is so again.
    """
    kept = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(kept)


# As in the fresh interpreters of several jobs, whatever the caller's program makes tensors in.
@default_type(torch.float32)
def run_trial(
    trial: Trial,
    corpus: Corpus,
    judge: Judge,
    folder: Path,
    device: torch.device,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Run a trial to its end, or return its result if it has one.

    Args:
        trial: What to do.
        corpus: What to train on and to be measured on.
        judge: Judges samples.
        folder: The trial's folder; made if it is missing.
        device: Where to compute.
        say: Tells a person how far it is, about ten times.

    Returns:
        The result as JSON values; `diverged` if the loss became infinite or NaN.

    Raises:
        ValueError: The folder holds another trial or something damaged.
        OSError: The disk is full; the last checkpoint is intact.
        Stopped: A signal asked for it; the checkpoint is of the last update.
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


def _bits_per(estimate: Estimate, sizes: Tensor) -> tuple[float, float]:
    """Return bits per unit of size over windows of a text, and their standard error."""
    bits = estimate.values.cpu() / math.log(2)
    return float(bits.sum() / sizes.sum()), float(ratio_stderr(bits, sizes))


def _measure(run: TrialRun, judge: Judge, has_diverged: bool) -> dict[str, Any]:
    trial, training = run.trial, run.trial.training
    result: dict[str, Any] = {
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
