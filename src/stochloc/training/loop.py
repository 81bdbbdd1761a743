"""The training loop, on Lightning Fabric: one process or many, CPU or GPU, any precision.

A run lives in a folder: `recipe.json` (what is trained, how, on what), `tokenizer.json`,
`metrics.jsonl`, `checkpoint.safetensors` (to continue) and `config.json` with `model.safetensors`
(to use: the averaged weights). Every update seeds its own generators from the seed, the step and
the process, so a run that was cut off and resumed computes the same numbers as one that was not.
"""

import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricOptimizer
from safetensors.torch import save
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from stochloc.core import UNKNOWN, Estimate, Masked, line_integral
from stochloc.core.spread import ratio_stderr
from stochloc.data import count_tokens, draw_windows, held_out_windows
from stochloc.nn import LocalizationModel
from stochloc.training.average import AveragedWeights
from stochloc.training.checkpoint import Checkpoint, flatten, replacing
from stochloc.training.interruption import Interruption, Stopped
from stochloc.training.objective import cross_entropy
from stochloc.training.progress import ProgressDisplay
from stochloc.training.recipes import Recipe, TrainingConfig
from stochloc.training.records import to_json
from stochloc.training.seeds import seeded_generator, seeded_streams

METRICS = "metrics.jsonl"
FAILURE = "failure.safetensors"
# Full tensors on the CPU, whatever the parallel strategy did to them.
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
SaySample = Callable[[LocalizationModel], str]
DrawWindows = Callable[[np.ndarray, int, int, torch.Generator], Tensor]


@dataclass(frozen=True)
class Texts:
    """What a run trains and is measured on.

    Attributes:
        train: Tokens of the training text, 1-D.
        valid: Tokens of the held-out text, 1-D.
        say_sample: Draws a text from the model, to be shown with every held-out bound.
        draw_windows: Draws so many training windows of such a length from a text.
        first_label: The first token that is a label of a class; 0 when there are no classes.
        counted: In words, what held-out bits "per token" count.
    """

    train: np.ndarray
    valid: np.ndarray
    say_sample: SaySample
    draw_windows: DrawWindows = draw_windows
    first_label: int = 0
    counted: str = "tokens of text"

    def labels_in(self, rows: Tensor) -> Tensor:
        """Return the labels among tokens, which are given and not scored, and -1 elsewhere."""
        is_text = rows < self.first_label if self.first_label else torch.ones_like(rows).bool()
        return rows.masked_fill(is_text, UNKNOWN)


def learning_rate(config: TrainingConfig, step: int | float) -> float:
    """Return the learning rate of an update: linear warm-up, then cosine decay to 0.

    Args:
        config: Gives the peak, the warm-up and the number of updates.
        step: Number of updates done before this one; between them too.

    Returns:
        The learning rate.
    """
    warmup = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    return config.learning_rate * warmup * 0.5 * (1 + math.cos(math.pi * step / config.num_steps))


def check_sharing(config: TrainingConfig, processes: int) -> None:
    """Refuse a batch that the processes cannot share equally.

    Args:
        config: Gives the batch.
        processes: How many there are.

    Raises:
        ValueError: The batch is no multiple of the processes.
    """
    if config.batch_size % processes:
        raise ValueError(
            f"The batch of {config.batch_size} windows cannot be shared equally by {processes} "
            "processes."
        )


def make_optimizer(
    model: torch.nn.Module,
    config: TrainingConfig,
    undecayed: Iterable[torch.nn.Parameter] = (),
) -> torch.optim.AdamW:
    """Return AdamW over every parameter; vectors and scalars are not decayed.

    Args:
        model: The module to train.
        config: Gives the weight decay and the moments' decay.
        undecayed: Matrices that are not decayed either.

    Returns:
        The optimiser.
    """
    kept = {id(p) for p in undecayed}
    matrices = [p for p in model.parameters() if p.ndim >= 2 and id(p) not in kept]
    others = [p for p in model.parameters() if p.ndim < 2 or id(p) in kept]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, config.beta2), fused=True)


class Trainer:
    """One training run at work.

    Args:
        fabric: The launched Fabric.
        recipe: What to train and how.
        texts: What to train and measure on.
        folder: The run's folder, which need not exist before the first update.

    Raises:
        ValueError: A text is shorter than a window, or the batch cannot be shared equally.
    """

    def __init__(self, fabric: Fabric, recipe: Recipe, texts: Texts, folder: Path) -> None:
        self.fabric, self.recipe, self.texts, self.folder = fabric, recipe, texts, folder
        self.config = recipe.training
        held_out_windows(texts.valid, self.config.length, 1)
        check_sharing(self.config, fabric.world_size)
        torch.manual_seed(self.config.seed)
        self.model = LocalizationModel(recipe.model)
        counts = count_tokens(texts.train, recipe.model.vocabulary_size)
        self.model.set_unigram(torch.from_numpy(counts))
        self.wrapped = fabric.setup_module(self.model)
        self.wrapped.mark_forward_method("token_nats")
        optimizer = make_optimizer(self.wrapped, self.config)
        self.optimizer = cast(_FabricOptimizer, fabric.setup_optimizers(optimizer))
        self.average = AveragedWeights(self.wrapped, self.config.ema_decay)
        self.step = 0

    @classmethod
    def resumed(
        cls, fabric: Fabric, recipe: Recipe, texts: Texts, folder: Path, checkpoint: Checkpoint
    ) -> "Trainer":
        """Return a training run as it was when a checkpoint was written.

        Args:
            fabric: The launched Fabric.
            recipe: What to train and how, as at the start.
            texts: What to train and measure on, as at the start.
            folder: The run's folder.
            checkpoint: As read from the folder.

        Returns:
            The run.

        Raises:
            ValueError: The checkpoint is of another model; seen before there is room made for one.
        """
        _check_same_model(checkpoint, recipe, folder)
        trainer = cls(fabric, recipe, texts, folder)
        trainer._load(checkpoint)
        return trainer

    def update(self) -> Tensor:
        """Do one update and return its loss, in nats per token."""
        config, rank = self.config, self.fabric.global_rank
        rows = config.batch_size // self.fabric.world_size
        choice = seeded_generator(torch.device("cpu"), config.seed, self.step, rank, 0)
        noise = seeded_generator(self.fabric.device, config.seed, self.step, rank, 1)
        tokens = self.texts.draw_windows(self.texts.train, rows, config.length, choice)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, self.step)
        loss = cross_entropy(
            cast(Any, self.wrapped),
            tokens.to(self.fabric.device),
            config.law,
            noise,
            self.texts.first_label,
        )
        if not self._is_finite_everywhere(loss):
            raise self._failure(tokens, "loss", loss)
        self.fabric.backward(loss)
        norm = self.fabric.clip_gradients(
            self.wrapped, self.optimizer, max_norm=config.clip_norm, error_if_nonfinite=False
        )
        # A loss scaler expects infinite gradients now and then, and skips the step itself.
        is_scaled = getattr(self.fabric.strategy.precision, "scaler", None) is not None
        if not (is_scaled or self._is_finite_everywhere(cast(Tensor, norm))):
            raise self._failure(tokens, "gradient", cast(Tensor, norm))
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.update(self.step)
        self.step += 1
        return loss.detach()

    def _is_finite_everywhere(self, value: Tensor) -> bool:
        # An average over processes: 1 if it is finite in all of them.
        return float(cast(Tensor, self.fabric.all_reduce(value.detach().isfinite().to(value)))) == 1

    def _failure(self, tokens: Tensor, name: str, value: Tensor) -> ValueError:
        # Collective: the weights before the update, and the batch of the first process.
        weights = get_model_state_dict(self.model_module, options=WHOLE)
        value = cast(Tensor, self.fabric.all_reduce(value.detach()))  # one infinite is all
        path = self.folder / FAILURE
        if self.fabric.is_global_zero:
            tensors = flatten({"model": cast(dict[str, Tensor], weights)})
            note = {"step": self.step, "recipe": self.recipe.to_dict()}
            with replacing(path) as temporary:
                header = {"failure": json.dumps(note)}
                temporary.write_bytes(save({**tensors, "tokens": tokens}, metadata=header))
        return ValueError(
            f"The {name} became {float(value)} in update {self.step + 1}: lower the "
            f"learning rate. The batch and the weights before it are in {path}."
        )

    def evaluate(self) -> dict[str, Any]:
        """Return the held-out bound of the averaged weights and a sample, as a line of metrics.

        Collective: the weights are gathered into a plain model, which the first process measures.
        """
        config, averaged = self.config, self._averaged_state()
        if not self.fabric.is_global_zero:
            return {}
        model = LocalizationModel(self.recipe.model).to(self.fabric.device)
        model.load_state_dict(averaged)
        windows = held_out_windows(self.texts.valid, config.length, config.eval_sequences)
        device, parts = self.fabric.device, []
        for begin in range(0, len(windows), config.batch_size):
            rows = windows[begin : begin + config.batch_size].to(device)
            names = ((0, 0, 2, begin + row) for row in range(len(rows)))
            streams = seeded_streams(device, config.seed, names)
            known = self.texts.labels_in(rows)
            parts.append(line_integral(model, rows, Masked(), 8, streams, known))
        bits = Estimate.join(parts).values.cpu() / math.log(2)
        counts = (self.texts.labels_in(windows) == UNKNOWN).sum(-1)
        stderr = float(ratio_stderr(bits, counts))
        return {
            "step": self.step,
            "valid_bits_per_token": float(bits.sum() / counts.sum()),
            "stderr": None if math.isnan(stderr) else stderr,
            "counted": self.texts.counted,
            "path": "masked",
            "sample": self.texts.say_sample(model),
        }

    def save(self) -> None:
        """Write the checkpoint and the averaged model; collective, written by the first process."""
        weights = get_model_state_dict(self.model_module, options=WHOLE)
        averaged = self._averaged_state()
        optimizer = self._optimizer_state(WHOLE)
        if self.fabric.is_global_zero:  # the others were given empty dictionaries
            moments = flatten(cast(dict[str, dict[str, Tensor]], optimizer["state"]))
            tensors = flatten(
                {
                    "model": cast(dict[str, Tensor], weights),
                    "average": averaged,
                    "optimizer": moments,
                }
            )
            # The checkpoint comes last: a run cut off in between does these updates again.
            export(self.recipe, averaged, self.folder)
            Checkpoint(self.step, self.recipe.to_dict(), tensors).write(self.folder)
        self.fabric.barrier()

    def _load(self, checkpoint: Checkpoint) -> None:
        groups = self._optimizer_state(StateDictOptions(full_state_dict=True))["param_groups"]
        averaged, weights = (dict[str, Any](checkpoint.part(name)) for name in ("average", "model"))
        set_model_state_dict(self.model_module, averaged, options=WHOLE)
        self.average = AveragedWeights(self.wrapped, self.config.ema_decay)
        set_model_state_dict(self.model_module, weights, options=WHOLE)
        set_optimizer_state_dict(
            self.model_module,
            self.optimizer.optimizer,
            {"state": dict[str, Any](checkpoint.moments()), "param_groups": groups},
            options=WHOLE,
        )
        self.step = checkpoint.step

    def _averaged_state(self) -> dict[str, Any]:
        with self.average.in_place():
            state = get_model_state_dict(self.model_module, options=WHOLE)
            return {name: cast(Tensor, value).clone() for name, value in state.items()}

    def _optimizer_state(self, options: StateDictOptions) -> dict[str, Any]:
        return get_optimizer_state_dict(
            self.model_module, self.optimizer.optimizer, options=options
        )

    @property
    def model_module(self) -> torch.nn.Module:
        """The module as the parallel strategy wrapped it, for collective state dictionaries."""
        return self.wrapped._forward_module


def train(trainer: Trainer) -> LocalizationModel:
    """Train a model to the end of its recipe.

    Args:
        trainer: The run, new or resumed; its folder, which exists now, gets metrics, checkpoints
            and the model.

    Returns:
        The model with its averaged weights, on the CPU of the first process.

    Raises:
        ValueError: The loss or its gradient became infinite or no number; then
            `failure.safetensors` has the batch and the weights before the update.
        OSError: The disk is full; the last checkpoint is intact.
        Stopped: A signal asked for it; the checkpoint is of the last update.
    """
    fabric, folder, config = trainer.fabric, trainer.folder, trainer.config
    if fabric.is_global_zero:
        _keep_metrics_until(trainer.step, folder / METRICS)
    update_tokens = config.batch_size * config.length
    progress = ProgressDisplay(trainer.step, config.num_steps, update_tokens, fabric.is_global_zero)
    with Interruption() as interruption, progress as display:
        started_s = time.monotonic()
        while trainer.step < config.num_steps:
            loss = trainer.update()
            step = trainer.step
            is_last = step == config.num_steps
            if step % config.log_every == 0 or is_last:
                nats = float(cast(Tensor, fabric.all_reduce(loss)))
                display.update(step, nats)
                record = {"step": step, "loss_bits": nats / math.log(2),
                          "learning_rate": learning_rate(config, step - 1),
                          "tokens": step * update_tokens,
                          "elapsed_s": round(time.monotonic() - started_s, 3)}  # fmt: skip
                _log(fabric, folder, record)
            if step % config.eval_every == 0 or is_last:
                record = trainer.evaluate()
                _log(fabric, folder, record)
                if fabric.is_global_zero:
                    spread = "" if record["stderr"] is None else f" ± {record['stderr']:.3f}"
                    display.say(
                        f"step {step}: held-out {record['valid_bits_per_token']:.3f}{spread} bits "
                        f"per token (masked path)\n  {record['sample']}"
                    )
            signum = 0 if is_last else _signal_to_any(fabric, interruption, step, config.log_every)
            if step % config.checkpoint_every == 0 or is_last or signum:
                trainer.save()
            if signum:
                raise Stopped(signum)
    return LocalizationModel.from_pretrained(folder).eval()


def export(recipe: Recipe, averaged: dict[str, Any], folder: Path) -> None:
    """Write the model to use: `config.json` and `model.safetensors`, each replaced atomically.

    Args:
        recipe: Gives the model's configuration.
        averaged: The state dictionary of the averaged weights, on the CPU.
        folder: The run's folder.
    """
    with replacing(folder / "config.json") as path:
        path.write_text(json.dumps(recipe.to_dict()["model"], indent=2))
    with replacing(folder / "model.safetensors") as path:
        tensors = {name: tensor.contiguous() for name, tensor in averaged.items()}
        path.write_bytes(save(tensors, metadata={"format": "pt"}))


def _signal_to_any(fabric: Fabric, interruption: Interruption, step: int, every: int) -> int:
    """The signal that stops the run, the same for every process; now and then if there are some."""
    if fabric.world_size == 1:
        return interruption.signum
    if step % every:
        return 0
    return int(
        cast(
            Tensor,
            fabric.all_reduce(
                torch.tensor(interruption.signum, device=fabric.device), reduce_op="max"
            ),
        )
    )


def _log(fabric: Fabric, folder: Path, record: dict[str, Any]) -> None:
    if fabric.is_global_zero:
        with (folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(to_json(record) + "\n")


def _check_same_model(checkpoint: Checkpoint, recipe: Recipe, folder: Path) -> None:
    """Refuse a checkpoint whose tensors are not those of the recipe, before any is made."""
    found = {name: t.shape for name, t in checkpoint.tensors.items()}
    if recipe.model.depth > len(found) or found != _shapes(recipe):
        raise ValueError(f"The checkpoint in {folder} is of another model or version.")


def _shapes(recipe: Recipe) -> dict[str, torch.Size]:
    """Names and shapes of what `save` writes, known to every process without gathering."""
    with torch.device("meta"):
        model = LocalizationModel(recipe.model)
    shapes = {
        f"{part}.{name}": tensor.shape
        for part in ("model", "average")
        for name, tensor in model.state_dict().items()
    }
    for name, parameter in model.named_parameters():
        moments = {"step": (), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}
        shapes |= {f"optimizer.{name}.{m}": torch.Size(shape) for m, shape in moments.items()}
    return shapes


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):  # cut off while it was written
        return math.inf


def _keep_metrics_until(step: int, path: Path) -> None:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    kept = [line for line in lines if _step_of(line) <= step]
    with replacing(path) as temporary:
        temporary.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
