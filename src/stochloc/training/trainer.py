"""A training run at work: a model, its optimizer and average, and the checkpoint of all three.

On Lightning Fabric: one process or many, CPU or GPU, any precision. Random numbers need no state:
see `training.update`.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

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

from stochloc.nn import LocalizationModel
from stochloc.nn.frozen import freeze
from stochloc.training.checkpoint import BEST, Best, Checkpoint, flatten, replacing
from stochloc.training.ema import AveragedWeights
from stochloc.training.export import export, export_once
from stochloc.training.gathered import WHOLE, averaged_state, load_average
from stochloc.training.held_out import held_out_record
from stochloc.training.metrics import best_without_record
from stochloc.training.objective import cross_entropy
from stochloc.training.optimizers import make_optimizer
from stochloc.training.recipes import Recipe, TrainingConfig
from stochloc.training.shapes import check_same_model
from stochloc.training.texts import TrainingData
from stochloc.training.update import Engine, Optimizer, Updates

FAILURE = "failure.safetensors"
SCALE = "scale_of_gradients"


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

    def __init__(self, fabric: Fabric, recipe: Recipe, texts: TrainingData, folder: Path) -> None:
        self.fabric, self.recipe, self.texts, self.folder = fabric, recipe, texts, folder
        self.config = recipe.training
        next(texts.held_out(self.config.length, 1))
        check_sharing(self.config, fabric.world_size)
        torch.manual_seed(self.config.seed)
        self.model = LocalizationModel(recipe.model)
        freeze(self.model, recipe.freeze)  # before processes agree on whose gradients to share
        counts = texts.counts(recipe.model.vocabulary_size)
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
        cls,
        fabric: Fabric,
        recipe: Recipe,
        texts: TrainingData,
        folder: Path,
        checkpoint: Checkpoint,
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
        check_same_model(checkpoint, recipe, folder)
        trainer = cls(fabric, recipe, texts, folder)
        trainer.load(checkpoint)
        return trainer

    @property
    def step(self) -> int:
        """Number of updates done."""
        return self.updates.done

    @property
    def bounds_since_best(self) -> int:
        """How many held-out bounds in turn were no better than the best of before."""
        every = self.config.eval_every
        return 0 if self.best is None else self.step // every - self.best.step // every

    @property
    def is_out_of_patience(self) -> bool:
        """Whether training ends before its last update, by the recipe's patience."""
        return 0 < self.recipe.patience <= self.bounds_since_best

    @property
    def has_ended(self) -> bool:
        """Whether no update is left to do."""
        return self.step >= self.config.num_steps or self.is_out_of_patience

    def update(self) -> Tensor:
        """Do one update and return its loss, in nats per token."""
        return self.updates.update(self.step)

    def _draw(self, rows: int, length: int, generator: torch.Generator) -> Tensor:
        return self.texts.draw(rows, length, generator)

    def _loss(self, tokens: Tensor, generator: torch.Generator) -> Tensor:
        texts, model = self.texts, cast(Any, self.wrapped)
        return cross_entropy(
            model, tokens, self.config.law, generator, texts.first_label, texts.boundary
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
        averaged = averaged_state(self.model_module, self.average, self.parameter_names)
        record: dict[str, Any] = {}
        if self.fabric.is_global_zero:
            model = LocalizationModel(self.recipe.model).to(self.fabric.device)
            model.load_state_dict(averaged)
            record = held_out_record(model, self.texts, self.config, self.step)
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

    def save(self) -> None:
        """Write the checkpoint and, unless an earlier one was better, the averaged model.

        Collective, written by the first process. The checkpoint comes first: it holds the same
        averages, so a run cut off in between writes its model when it is resumed.
        """
        weights = get_model_state_dict(self.model_module, options=WHOLE)
        averaged = averaged_state(self.model_module, self.average, self.parameter_names)
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

    def load(self, checkpoint: Checkpoint) -> None:
        """Make the run what it was when a checkpoint was written; collective.

        Args:
            checkpoint: One of the run's recipe.
        """
        groups = self._optimizer_state(StateDictOptions(full_state_dict=True))["param_groups"]
        load_average(self.model_module, self.average, checkpoint.part("average"))
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
        self.best = checkpoint.best or best_without_record(self.folder, self.step)
        if self.fabric.is_global_zero and self._is_model_the_last:
            export_once(self.recipe, checkpoint.part("average"), self.folder)

    def _optimizer_state(self, options: StateDictOptions) -> dict[str, Any]:
        return get_optimizer_state_dict(
            self.model_module, self.optimizer.optimizer, options=options
        )

    @property
    def model_module(self) -> torch.nn.Module:
        """The module as the parallel strategy wrapped it, for collective state dictionaries."""
        return self.wrapped._forward_module
