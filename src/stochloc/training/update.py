"""One update of a module's weights: the same for a training run and for a trial of a comparison.

    windows of text -> loss -> gradient, clipped -> optimizer -> running average of the weights

Every update seeds its own generators from the seed, the number of updates before it and the
process: the windows are drawn from one, the noise from the other. A run that was cut off and
resumed therefore computes the same numbers as one that was not, and all methods of a comparison see
the same windows.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from stochloc.nn.backbones.products import half_products
from stochloc.training.ema import AveragedWeights
from stochloc.training.recipes import TrainingConfig
from stochloc.training.schedule import learning_rate
from stochloc.training.seeds import seeded_generator

Draw = Callable[[int, int, torch.Generator], Tensor]
Loss = Callable[[Tensor, torch.Generator], Tensor]
Check = Callable[[Tensor, Tensor], None]


@runtime_checkable
class Optimizer(Protocol):
    """Updates the parameters: one of torch's optimizers, or Fabric's wrapper of one."""

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The parameters and their settings; the learning rate is set here."""
        ...

    def step(self) -> Any:  # noqa: ANN401
        """Update the parameters by their gradients."""
        ...

    def zero_grad(self) -> None:
        """Clear the gradients."""
        ...


@runtime_checkable
class Engine(Protocol):
    """Computes an update; Lightning's `Fabric` is one engine, `OneProcess` another."""

    @property
    def device(self) -> torch.device:
        """Where the module is."""
        ...

    @property
    def global_rank(self) -> int:
        """Number of this process."""
        ...

    @property
    def world_size(self) -> int:
        """Number of processes that share a batch."""
        ...

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context in which the loss is computed."""
        ...

    def backward(self, tensor: Tensor) -> None:
        """Add the gradient of a loss to the parameters."""
        ...

    def clip_gradients(
        self,
        module: nn.Module,
        optimizer: Optimizer,
        *,
        max_norm: float,
        error_if_nonfinite: bool,
    ) -> Tensor | None:
        """Scale gradients down to a norm and return the norm they had."""
        ...


@dataclass(frozen=True)
class OneProcess:
    """One process without Fabric.

    Attributes:
        device: The module's device.
        half_products: Whether losses are computed with the transformer's products in bfloat16
            (`nn.backbones.products.half_products`); all else has the type of the parameters.
    """

    device: torch.device
    half_products: bool = False
    global_rank: int = 0
    world_size: int = 1

    def autocast(self) -> AbstractContextManager[None]:
        """Return the context in which the loss is computed."""
        return half_products() if self.half_products else nullcontext()

    def backward(self, tensor: Tensor) -> None:
        """Add the gradient of a loss to the parameters."""
        tensor.backward()

    def clip_gradients(
        self,
        module: nn.Module,
        optimizer: Optimizer,
        *,
        max_norm: float,
        error_if_nonfinite: bool,
    ) -> Tensor:
        """Scale gradients down to a norm and return the norm they had.

        The norm sums over parameters in the order of the module; Fabric's sums in that of the
        optimizer's groups, and differs by rounding.
        """
        return nn.utils.clip_grad_norm_(
            module.parameters(), max_norm, error_if_nonfinite=error_if_nonfinite
        )


def accept(value: Tensor, tokens: Tensor) -> None:
    """Accept any loss or norm: the check for callers that examine the loss afterwards."""


@dataclass
class Updates:
    """A module in training, with everything that an update reads and changes.

    Attributes:
        engine: Computes gradients.
        module: The module to train, as the engine wraps it.
        optimizer: Updates the parameters, as the engine wraps it.
        average: The running average of the weights.
        config: Seed, batch, length, learning rate and norm of the gradient.
        draw: Draws a number of windows of a length from the training text.
        loss: Returns the loss of a batch, nats per token, from a stream of noise.
        check_loss: Called with the loss and the batch before the gradient is computed; raises if
            training must end.
        check_gradient: The same for the gradient's norm, before the weights change.
        done: Number of updates done.
    """

    engine: Engine
    module: nn.Module
    optimizer: Optimizer
    average: AveragedWeights
    config: TrainingConfig
    draw: Draw
    loss: Loss
    check_loss: Check = accept
    check_gradient: Check = accept
    done: int = 0

    def update(self, progress: int | float) -> Tensor:
        """Do one update and return its loss, nats per token, without its gradient.

        Args:
            progress: Progress of the training, as `learning_rate` takes it.

        Returns:
            The loss of this process's share of the batch, before the update.
        """
        engine, config = self.engine, self.config
        seeds = config.seed, self.done, engine.global_rank
        choice = seeded_generator(torch.device("cpu"), *seeds, 0)
        noise = seeded_generator(engine.device, *seeds, 1)
        tokens = self.draw(config.batch_size // engine.world_size, config.length, choice)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, progress)
        with engine.autocast():
            loss = self.loss(tokens.to(engine.device), noise)
        self.check_loss(loss, tokens)
        engine.backward(loss)
        norm = engine.clip_gradients(
            self.module, self.optimizer, max_norm=config.clip_norm, error_if_nonfinite=False
        )
        assert norm is not None
        self.check_gradient(norm, tokens)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.update(self.done)
        self.done += 1
        return loss.detach()
