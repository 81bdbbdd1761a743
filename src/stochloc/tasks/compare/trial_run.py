"""A running trial of a method: its updates, checkpoints, bounds and samples.

Every update seeds its generators from the seed and the step, so an interrupted trial gives the same
results (unless its budget is in seconds), and all methods see the same windows of text.
"""

import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stochloc.core import Estimate
from stochloc.core.standard_errors import ratio_stderr
from stochloc.data import Corpus, count_tokens, draw_windows, held_out_windows
from stochloc.methods import METHODS, Drawn, Frame, Method
from stochloc.methods.left_to_right import left_to_right
from stochloc.nn import Backbone
from stochloc.tasks.compare.judge import Judge
from stochloc.tasks.compare.memory import texts_at_once
from stochloc.tasks.compare.result import FIRST_REVISION
from stochloc.tasks.compare.trial import Trial
from stochloc.tasks.counting import bytes_in, characters_in
from stochloc.training.checkpoint import Checkpoint, flatten
from stochloc.training.ema import AveragedWeights
from stochloc.training.optimizers import make_optimizer
from stochloc.training.seeds import seeded_generator
from stochloc.training.update import OneProcess, Updates, as_one_part
from stochloc.training.windows import SeededWindows

SHOWN_TEXTS = 2


class TrialRun:
    """A running trial of a method.

    Args:
        trial: The trial.
        corpus: The text for training and evaluation.
        folder: The trial's folder, which exists.
        device: Where to compute.
    """

    def __init__(self, trial: Trial, corpus: Corpus, folder: Path, device: torch.device) -> None:
        self.trial, self.corpus, self.folder, self.device = trial, corpus, folder, device
        frame = frame_of(corpus, trial.training.length, trial.backbone)
        torch.manual_seed(trial.training.seed)
        self.method: Method = METHODS[trial.method](frame).to(device)
        self.optimizer = make_optimizer(self.method, trial.training, self.method.undecayed())
        self.average = AveragedWeights(self.method, trial.training.ema_decay)
        self.updates = Updates(
            OneProcess(device, trial.half_products),
            self.method,
            self.optimizer,
            self.average,
            trial.training,
            SeededWindows(self._draw, trial.training),
            as_one_part(self.method.loss),
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
        # Reading the loss waits for the device, so the clocks stop after that.
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
        """Return the bound on test text and the scores of samples, with the averaged weights.

        Args:
            judge: Scores samples.

        Returns:
            The results as JSON values.
        """
        scoring, training = self.trial.scoring, self.trial.training
        tokenizer = self.corpus.tokenizer
        windows = held_out_windows(self.corpus.test, training.length, scoring.windows)
        started_s = time.monotonic()
        estimate = self._bound(windows, scoring.num_samples, 3)
        sizes = characters_in(tokenizer, windows)
        bits, stderr = _bits_per(estimate, sizes)
        directed = self._read_left_to_right(windows, sizes)
        drawn = []
        for num_steps in scoring.steps:
            generator = seeded_generator(self.device, training.seed, num_steps, 0, 4)
            begun_s = time.monotonic()
            with self.average.in_place():
                sample = self._sample(num_steps, generator)
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
            "bits_per_byte": _bits_per(estimate, bytes_in(tokenizer, windows))[0],
            "windows": len(windows),
            "denoiser_calls": estimate.denoiser_calls,
            "is_exact": self.method.is_exact,
            "left_to_right": directed,
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
        """Continue from the folder's checkpoint, if there is one of this revision of the method.

        Raises:
            ValueError: It is damaged or of another trial.
        """
        checkpoint = Checkpoint.read(self.folder)
        if checkpoint is None:
            return
        described = {"method_revision": FIRST_REVISION, **checkpoint.description.get("trial", {})}
        if self.trial.is_of_another_revision(described):
            return
        if described != self.trial.to_dict():
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

    def _read_left_to_right(self, windows: Tensor, sizes: Tensor) -> dict[str, float] | None:
        exact = left_to_right(self.method)
        if exact is None:
            return None
        with self.average.in_place():
            rows = windows.split(self.trial.training.batch_size)
            estimate = Estimate.join([exact(own.to(self.device)) for own in rows])
        bits, stderr = _bits_per(estimate, sizes)
        return {"bits_per_character": bits, "stderr": stderr}

    def _sample(self, num_steps: int, generator: torch.Generator) -> Drawn:
        texts, length = self.trial.scoring.texts, self.trial.training.length
        at_once = texts_at_once(length, self.corpus.tokenizer.vocabulary_size)
        drawn = [
            self.method.sample(min(at_once, texts - first), length, num_steps, generator)
            for first in range(0, texts, at_once)
        ]
        # Methods that pass over steps at which nothing changes may take fewer for some texts.
        calls = max(some.denoiser_calls for some in drawn)
        return Drawn(torch.cat([some.tokens for some in drawn]), calls)

    def _bound(self, windows: Tensor, num_samples: int, kind: int) -> Estimate:
        training = self.trial.training
        generator = seeded_generator(self.device, training.seed, 0, 0, kind)
        with self.average.in_place():
            parts = [
                self.method.bound(rows.to(self.device), num_samples, generator)
                for rows in windows.split(training.batch_size)
            ]
        return Estimate.join(parts)


def frame_of(corpus: Corpus, length: int, backbone: Backbone) -> Frame:
    """Return what all methods of a comparison share.

    Args:
        corpus: The text for training and evaluation.
        length: Tokens per window.
        backbone: The transformer.

    Returns:
        The frame, with the token frequencies of the training part.
    """
    counts = count_tokens(corpus.train, corpus.tokenizer.vocabulary_size)
    return Frame(torch.from_numpy(counts), length, backbone)


def _bits_per(estimate: Estimate, sizes: Tensor) -> tuple[float, float]:
    """Return bits per unit of size over windows of a text, and their standard error."""
    bits = estimate.values.cpu() / math.log(2)
    return float(bits.sum() / sizes.sum()), float(ratio_stderr(bits, sizes))
