"""The training loop, on Lightning Fabric: one process or many, CPU or GPU, any precision.

A run lives in a folder: `recipe.json` (what is trained, how, on what), `tokenizer.json`,
`metrics.jsonl`, `checkpoint.safetensors` (to continue) and `config.json` with `model.safetensors`
(to use: of the averaged weights those with the best held-out bound). Random numbers need no state:
see `training.update`.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
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
from stochloc.core.standard_errors import ratio_stderr
from stochloc.data import count_tokens, draw_windows, held_out_windows
from stochloc.nn import LocalizationModel
from stochloc.training.checkpoint import BEST, Best, Checkpoint, flatten, replacing
from stochloc.training.ema import AveragedWeights
from stochloc.training.interruption import Interruption, Stopped
from stochloc.training.objective import cross_entropy
from stochloc.training.optimizers import make_optimizer, optimizer_family
from stochloc.training.progress import ProgressDisplay
from stochloc.training.recipes import Recipe, TrainingConfig
from stochloc.training.records import to_json
from stochloc.training.schedule import learning_rate
from stochloc.training.seeds import seeded_streams
from stochloc.training.update import Engine, Optimizer, Updates

METRICS = "metrics.jsonl"
FAILURE = "failure.safetensors"
SCALE = "scale_of_gradients"
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
        self.parameter_names = [name for name, _ in self.model.named_parameters()]
        self.wrapped = fabric.setup_module(self.model)
        # After that: a precision of half the bits rounds the module, but must not round the prior.
        self.model.set_unigram(torch.from_numpy(counts))
        self.wrapped.mark_forward_method("token_nats")
        optimizer = make_optimizer(self.wrapped, self.config, is_fused=not self._is_scaled)
        self.optimizer = cast(_FabricOptimizer, fabric.setup_optimizers(optimizer))
        self.average = AveragedWeights(self.wrapped, self.config.ema_decay)
        # A marked method bypasses Fabric's own autocast, unless a strategy wraps the module: the
        # update enters it.
        self.updates = Updates(
            cast(Engine, fabric),
            self.wrapped,
            cast(Optimizer, self.optimizer),
            self.average,
            self.config,
            self._draw,
            self._loss,
            self._check_loss,
            self._check_gradient,
        )
        self.best: Best | None = None

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
            ValueError: The checkpoint is of another model; checked before memory is allocated.
        """
        _check_same_model(checkpoint, recipe, folder)
        trainer = cls(fabric, recipe, texts, folder)
        trainer._load(checkpoint)
        return trainer

    @property
    def step(self) -> int:
        """Number of updates done."""
        return self.updates.done

    def update(self) -> Tensor:
        """Do one update and return its loss, in nats per token."""
        return self.updates.update(self.step)

    def _draw(self, rows: int, length: int, generator: torch.Generator) -> Tensor:
        return self.texts.draw_windows(self.texts.train, rows, length, generator)

    def _loss(self, tokens: Tensor, generator: torch.Generator) -> Tensor:
        return cross_entropy(
            cast(Any, self.wrapped), tokens, self.config.law, generator, self.texts.first_label
        )

    def _check_loss(self, loss: Tensor, tokens: Tensor) -> None:
        if not self._is_finite_everywhere(loss):
            raise self._failure(tokens, "loss", loss)

    def _check_gradient(self, norm: Tensor, tokens: Tensor) -> None:
        # A loss scaler expects infinite gradients now and then, and skips the step itself.
        if not (self._is_scaled or self._is_finite_everywhere(norm)):
            raise self._failure(tokens, "gradient", norm)

    @property
    def _is_scaled(self) -> bool:
        return getattr(self.fabric.strategy.precision, "scaler", None) is not None

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

        It is measured in float32, on the same windows with the same noise every time, so that
        bounds of one run differ by less than the standard error of each. Collective: the weights
        are gathered into a plain model, which the first process measures.
        """
        averaged = self._averaged_state()
        record = self._measure(averaged) if self.fabric.is_global_zero else {}
        return self.fabric.broadcast(record)

    def keep_if_best(self, record: dict[str, Any]) -> bool:
        """Remember the averaged weights if their bound is the lowest there was.

        Args:
            record: What `evaluate` has just returned; `save` then writes the model.

        Returns:
            Whether it is.
        """
        bits = record["valid_bits_per_token"]
        is_best = self.best is None or bits < self.best.valid_bits_per_token
        if is_best:
            self.best = Best(self.step, bits)
        return is_best

    def _measure(self, averaged: dict[str, Any]) -> dict[str, Any]:
        config = self.config
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
        """Write the checkpoint and, unless an earlier one was better, the averaged model.

        Collective, written by the first process. The checkpoint comes first: it holds the same
        averages, so a run cut off in between writes its model when it is resumed.
        """
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
            best = {} if self.best is None else {BEST: asdict(self.best)}
            scale = self.fabric.strategy.precision.state_dict()
            description = {**self.recipe.to_dict(), **best, **({SCALE: scale} if scale else {})}
            Checkpoint(self.step, description, tensors).write(self.folder)
            if self._is_model_the_last:
                export(self.recipe, averaged, self.folder)
        self.fabric.barrier()

    @property
    def _is_model_the_last(self) -> bool:
        return self.best is None or self.best.step == self.step

    def _load(self, checkpoint: Checkpoint) -> None:
        groups = self._optimizer_state(StateDictOptions(full_state_dict=True))["param_groups"]
        self._load_average(checkpoint.part("average"))
        weights = dict[str, Any](checkpoint.part("model"))
        set_model_state_dict(self.model_module, weights, options=WHOLE)
        set_optimizer_state_dict(
            self.model_module,
            self.optimizer.optimizer,
            {"state": dict[str, Any](checkpoint.moments()), "param_groups": groups},
            options=WHOLE,
        )
        scale = checkpoint.description.get(SCALE)
        if self._is_scaled and scale is not None:
            self.fabric.strategy.precision.load_state_dict(scale)
        self.updates.done = checkpoint.step
        self.best = checkpoint.best or _best_without_record(self.folder, self.step)
        if self.fabric.is_global_zero and self._is_model_the_last:
            _export_once(self.recipe, checkpoint.part("average"), self.folder)

    def _averaged_state(self) -> dict[str, Any]:
        whole: dict[str, Any] = {}
        for _ in self.average.pieces():
            for name, value in get_model_state_dict(self.model_module, options=WHOLE).items():
                piece = cast(Tensor, value).to(torch.float32, copy=True)
                is_first = name not in whole or name not in self.parameter_names
                whole[name] = piece if is_first else whole[name] + piece
        return whole

    def _load_average(self, rest: dict[str, Tensor]) -> None:
        dtype = self.average.parameters[0].dtype
        self.average.clear()
        for _ in range(self.average.num_pieces):
            set_model_state_dict(self.model_module, dict[str, Any](rest), options=WHOLE)
            self.average.add_piece()
            rest = {name: value - value.to(dtype).to(value) for name, value in rest.items()}

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
        The model of the best held-out bound, its averaged weights, on the CPU of each process.

    Raises:
        ValueError: The loss or its gradient became infinite or NaN; then
            `failure.safetensors` has the batch and the weights before the update.
        OSError: The disk is full; the last checkpoint is intact.
        Stopped: A signal asked for it; the checkpoint is of the last update.
    """
    fabric, folder, config = trainer.fabric, trainer.folder, trainer.config
    trained_s = 0.0
    if fabric.is_global_zero:
        trained_s = _keep_metrics_until(trainer.step, folder / METRICS)
    update_tokens = config.batch_size * config.length
    progress = ProgressDisplay(trainer.step, config.num_steps, update_tokens, fabric.is_global_zero)
    with Interruption() as interruption, progress as display:
        started_s = time.monotonic() - trained_s
        while trainer.step < config.num_steps:
            loss = trainer.update()
            step = trainer.step
            is_last, is_best = step == config.num_steps, False
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
                is_best = trainer.keep_if_best(record)
                _log(fabric, folder, record)
                if fabric.is_global_zero:
                    spread = "" if record["stderr"] is None else f" ± {record['stderr']:.3f}"
                    display.say(
                        f"step {step}: held-out {record['valid_bits_per_token']:.3f}{spread} bits "
                        f"per token (masked path)\n  {record['sample']}"
                    )
            signum = 0 if is_last else _signal_to_any(fabric, interruption, step, config.log_every)
            if step % config.checkpoint_every == 0 or is_last or is_best or signum:
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
    for name, content in _exported(recipe, averaged).items():
        with replacing(folder / name) as path:
            path.write_bytes(content)


def _export_once(recipe: Recipe, averaged: dict[str, Any], folder: Path) -> None:
    """Write the model to use where it is not there: files keep their times if nothing is new."""
    for name, content in _exported(recipe, averaged).items():
        if not ((folder / name).is_file() and (folder / name).read_bytes() == content):
            with replacing(folder / name) as path:
                path.write_bytes(content)


def _exported(recipe: Recipe, averaged: dict[str, Any]) -> dict[str, bytes]:
    tensors = {name: tensor.contiguous() for name, tensor in averaged.items()}
    return {
        "config.json": json.dumps(recipe.to_dict()["model"], indent=2).encode(),
        "model.safetensors": save(tensors, metadata={"format": "pt"}),
    }


def _best_without_record(folder: Path, step: int) -> Best | None:
    """The model of a checkpoint by a version that kept only the last, if its bound was measured."""
    for line in _lines(folder / METRICS):
        try:
            record = json.loads(line)
            if record["step"] == step:
                return Best(step, record["valid_bits_per_token"])
        except (ValueError, KeyError, TypeError):
            continue
    return None


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
    family = optimizer_family(recipe.training)
    for name, parameter in model.named_parameters():
        moments = family.moments(parameter.shape)
        shapes |= {f"optimizer.{name}.{moment}": shape for moment, shape in moments.items()}
    return shapes


def _number_in(line: str, name: str, otherwise: float) -> float:
    try:
        return float(json.loads(line)[name])
    except (ValueError, KeyError, TypeError):  # cut off while it was written, or not in this line
        return otherwise


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []


def _keep_metrics_until(step: int, path: Path) -> float:
    """Cut metrics off behind an update; the seconds that training had taken until then."""
    kept = [line for line in _lines(path) if _number_in(line, "step", math.inf) <= step]
    with replacing(path) as temporary:
        temporary.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
    return max((_number_in(line, "elapsed_s", 0.0) for line in kept), default=0.0)
