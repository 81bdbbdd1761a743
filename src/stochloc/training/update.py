"""One update of a module's weights: the same for a training run and for a trial of a comparison.

    windows of text -> loss -> gradient, clipped -> optimizer -> running average of the weights

A batch may be computed in parts, whose gradients are added up.

Every update seeds its own generators from the seed and the number of updates before it: the windows
are drawn from one, the noise from the other. A run that was cut off and resumed therefore computes
the same numbers as one that was not, however many processes share its batches, and all methods of a
comparison see the same windows.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from stochloc.nn.backbones.products import half_products
from stochloc.training.ema import AveragedWeights
from stochloc.training.finite import Unwatched, Watch
from stochloc.training.recipes import TrainingConfig
from stochloc.training.schedule import learning_rate
from stochloc.training.seeds import seeded_generator
from stochloc.training.windows import Windows

# Computes the loss of a part of a batch, once.
Part = Callable[[], Tensor]
# Given the tokens of a batch, on the CPU, and a stream of noise; losses of parts add up to that of
# the batch.
Parts = Callable[[Tensor, torch.Generator], Sequence[Part]]


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

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context in which the loss is computed."""
        ...

    def backward(self, tensor: Tensor) -> None:
        """Add the gradient of a loss to the parameters."""
        ...

    def no_backward_sync(self, module: nn.Module) -> AbstractContextManager[Any]:
        """Return the context in which gradients stay in their process."""
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

    def autocast(self) -> AbstractContextManager[None]:
        """Return the context in which the loss is computed."""
        return half_products() if self.half_products else nullcontext()

    def backward(self, tensor: Tensor) -> None:
        """Add the gradient of a loss to the parameters."""
        tensor.backward()

    def no_backward_sync(self, module: nn.Module) -> AbstractContextManager[None]:
        """Return a context without effect."""
        return nullcontext()

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


def as_one_part(loss: Callable[[Tensor, torch.Generator], Tensor]) -> Parts:
    """Return the loss of a batch as its only part.

    Args:
        loss: Returns the loss of tokens on the generator's device, from a stream of noise.

    Returns:
        The parts of a batch: one.
    """
    return lambda tokens, noise: [lambda: loss(tokens.to(noise.device), noise)]


@dataclass
class Updates:
    """A module in training, with everything that an update reads and changes.

    Attributes:
        engine: Computes gradients.
        module: The module to train, as the engine wraps it.
        optimizer: Updates the parameters, as the engine wraps it.
        average: The running average of the weights.
        config: Seed, learning rate and norm of the gradient.
        windows: Gives the tokens of every update.
        parts: Returns the parts of a batch, whose losses add up to its nats per token; each is
            computed when the gradients of those before have been added.
        watch: Looks at losses and gradients before the weights change.
        done: Number of updates done.
    """

    engine: Engine
    module: nn.Module
    optimizer: Optimizer
    average: AveragedWeights
    config: TrainingConfig
    windows: Windows
    parts: Parts
    watch: Watch = field(default_factory=Unwatched)
    done: int = 0

    def update(self, progress: int | float) -> Tensor:
        """Do one update and return its loss, nats per token, without its gradient.

        Args:
            progress: Progress of the training, as `learning_rate` takes it.

        Returns:
            The loss of this process's share of the batch, before the update.
        """
        engine, config = self.engine, self.config
        noise = seeded_generator(engine.device, config.seed, self.done, 0, 1)
        parts = self.parts(self.windows.of(self.done), noise)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, progress)
        losses = [self._backward(part, n == len(parts)) for n, part in enumerate(parts, start=1)]
        loss = torch.stack(losses).sum() if len(losses) > 1 else losses[0]
        norm = engine.clip_gradients(
            self.module, self.optimizer, max_norm=config.clip_norm, error_if_nonfinite=False
        )
        assert norm is not None
        if self.watch.judge(loss, norm, self.done):
            self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.update(self.done, self.watch.kept_share)
        self.done += 1
        return loss

    def _backward(self, part: Part, is_last: bool) -> Tensor:
        """Add the gradient of a part; processes share gradients when all parts are added up."""
        engine = self.engine
        with nullcontext() if is_last else engine.no_backward_sync(self.module):
            with engine.autocast():
                loss = part()
            engine.backward(self.watch.weighed(loss))
        return loss.detach()
