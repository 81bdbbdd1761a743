"""A training run at work: a model, its optimizer and average, and the checkpoint of all three.

On Lightning Fabric: one process or many, CPU or GPU, any precision. Random numbers need no state:
see `training.update`.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricOptimizer
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
from stochloc.training.checkpoint import BEST, Best, Checkpoint, flatten
from stochloc.training.ema import AveragedWeights
from stochloc.training.execution import PLAIN, Execution
from stochloc.training.export import export, export_once
from stochloc.training.finite import (
    FirstFailure,
    failure_message,
    first_failed,
    write_failure,
)
from stochloc.training.gathered import WHOLE, averaged_state, load_average
from stochloc.training.held_out import held_out_record
from stochloc.training.metrics import best_without_record
from stochloc.training.objective import Share, cross_entropy, cross_entropy_in_parts, shown
from stochloc.training.optimizers import make_optimizer
from stochloc.training.precision import unscales_for_one_kernel
from stochloc.training.recipes import Recipe, TrainingConfig
from stochloc.training.shapes import check_same_model
from stochloc.training.texts import TrainingData
from stochloc.training.update import Engine, Optimizer, Part, Updates
from stochloc.training.windows import SeededWindows, WindowsAhead

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
        execution: How updates are computed.

    Raises:
        ValueError: A text is shorter than a window, or the batch cannot be shared equally.
    """

    def __init__(
        self,
        fabric: Fabric,
        recipe: Recipe,
        texts: TrainingData,
        folder: Path,
        execution: Execution = PLAIN,
    ) -> None:
        self.fabric, self.recipe, self.texts, self.folder = fabric, recipe, texts, folder
        self.config, self.execution = recipe.training, execution
        next(texts.held_out(self.config.length, 1))
        check_sharing(self.config, fabric.world_size)
        execution.check_rows(self.config.batch_size // fabric.world_size)
        torch.manual_seed(self.config.seed)
        self.model = LocalizationModel(recipe.model)
        freeze(self.model, recipe.freeze)  # before processes agree on whose gradients to share
        counts = texts.counts(recipe.model.vocabulary_size)
        self.parameter_names = [name for name, _ in self.model.named_parameters()]
        network, is_ragged = (
            cast(torch.nn.Module, self.model.transformer),
            texts.boundary is not None,
        )
        execution.prepare(network, has_many_shapes=is_ragged)
        self.wrapped = fabric.setup_module(self.model)
        # After that: a precision of half the bits rounds the module, but must not round the prior.
        self.model.set_unigram(torch.from_numpy(counts))
        self.wrapped.mark_forward_method("token_nats")
        is_fused = not self._is_scaled or unscales_for_one_kernel(fabric.strategy.precision)
        optimizer = make_optimizer(self.wrapped, self.config, is_fused=is_fused)
        self.optimizer = cast(_FabricOptimizer, fabric.setup_optimizers(optimizer))
        self.average = AveragedWeights(self.wrapped, self.config.ema_decay)
        self.watch = FirstFailure(optimizer, self._is_scaled, fabric.device)
        windows = SeededWindows(self._draw, self.config)
        self.windows = WindowsAhead(windows, fabric.device, self.config.num_steps)
        # A marked method bypasses Fabric's own autocast, unless a strategy wraps the module: the
        # update enters it.
        self.updates = Updates(
            cast(Engine, fabric),
            self.wrapped,
            cast(Optimizer, self.optimizer),
            self.average,
            self.config,
            self.windows,
            self._parts,
            self.watch,
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
        execution: Execution = PLAIN,
    ) -> "Trainer":
        """Return a training run as it was when a checkpoint was written.

        Args:
            fabric: The launched Fabric.
            recipe: What to train and how, as at the start.
            texts: What to train and measure on, as at the start.
            folder: The run's folder.
            checkpoint: As read from the folder.
            execution: How updates are computed from now on.

        Returns:
            The run.

        Raises:
            ValueError: The checkpoint is of another model; checked before memory is allocated.
        """
        check_same_model(checkpoint, recipe, folder)
        trainer = cls(fabric, recipe, texts, folder, execution)
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
        """Do one update and return its loss, in nats per token.

        Raises:
            ValueError: The network cannot be compiled.
        """
        try:
            return self.updates.update(self.step)
        except RuntimeError as error:
            if (explained := self.execution.explained(error)) is None:
                raise
            raise explained from error

    def _draw(self, rows: int, length: int, generator: torch.Generator) -> Tensor:
        return self.texts.draw(rows, length, generator)

    def _parts(self, tokens: Tensor, noise: torch.Generator) -> Sequence[Part]:
        texts, model, num_parts = self.texts, cast(Any, self.wrapped), self.execution.accumulate
        drawn = (tokens, self.config.law, noise, texts.first_label, texts.boundary)
        share = Share(self.fabric.global_rank, self.fabric.world_size)
        if num_parts == share.of == 1:
            return [lambda: cross_entropy(model, *drawn)]
        batch, is_target = shown(*drawn), self.model.is_target
        return cross_entropy_in_parts(model, is_target, batch, noise, num_parts, share)

    @property
    def _is_scaled(self) -> bool:
        return getattr(self.fabric.strategy.precision, "scaler", None) is not None

    def check(self) -> None:
        """Raise if an update since the last check was not finite; collective, and waits.

        Raises:
            ValueError: One was. It and all later ones have been skipped: the weights are those
                before it, which `failure.safetensors` now holds with the batch.
        """
        update = first_failed(self.watch, self._reduced)
        if update is None:
            return
        message = failure_message(self.watch, update, self._reduced, self.folder)
        weights = get_model_state_dict(self.model_module, options=WHOLE)
        if self.fabric.is_global_zero:
            note = {"step": update, "recipe": self.recipe.to_dict()}
            tokens = self.windows.of(update)
            write_failure(self.folder, cast(dict[str, Tensor], weights), tokens, note)
        raise ValueError(message)

    def _reduced(self, value: Tensor, operation: str) -> Tensor:
        return cast(Tensor, self.fabric.all_reduce(value, reduce_op=operation))

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

        Raises:
            ValueError: As `check`; nothing is written then.
        """
        self.check()
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
