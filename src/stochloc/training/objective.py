"""The training objective: cross-entropy of the true tokens given noisy ones (paper 3).

    loss = E_γ E_z [ mean over the targets of -log Q_θ(x_i | what is shown) ]

The minimiser is the true posterior, whose mean is the best denoiser, at every γ that training
reaches. The mean squared error would have the same minimiser for fixed codes, but lets learned
codes collapse to a point (paper B.1).

A network that is shown `z_i` has as targets the tokens that are not known. One that leaves it out
answers for `P(x_i|z_-i)`, which a known token asks for as well as an unknown one, so all tokens are
targets. What it is shown at target i is the state `(left_<i, right_>i)`, whose γ are those of the
left draw before i and of the right draw after it. For each i this is a state of the channel,
whatever the two draws are, because none of its tokens occurs on both sides; so by

    E_x E_z [-log Q(x_i|z_-i)] = E_z [ H(P(·|z_-i)) + KL(P(·|z_-i) ‖ Q(·|z_-i)) ]

every target has its minimum at the true leave-one-out posterior. The two draws decide only which
states are shown how often: with the left known and the right at γ = 0, those of a left-to-right
model. Where the left is known, its tokens are also asked for given nothing but it, a second state
that one join makes. Adding the evidence, `Q(x_i|z) ∝ exp(z_i·x_i) Q(x_i|z_-i)`, then gives the true
posterior.

A batch may be computed in parts, and by several processes: γ and the noise are drawn for all of it,
by each of them, and every part is divided by the targets of all of it, so that the gradients of the
parts add up to the batch's, whoever computes them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int, Real
from torch import Tensor

from stochloc.core.numerics import draw_uniform
from stochloc.core.streams import Randomness, WholeBatch
from stochloc.nn import Alone, TargetNats
from stochloc.training.snr import SidedSnrLaw, SnrLaw, draw_sides

UNLABELLED_SHARE = 0.1


@runtime_checkable
class Trainable(Protocol):
    """A model that can be trained, whatever wraps it: see `LocalizationModel.token_nats`."""

    def token_nats(
        self,
        tokens: Int[Tensor, "batch length"],
        snr: Float[Tensor, "batch length"],
        right_snr: Float[Tensor, "batch length"] | None,
        generator: Randomness,
        is_full: bool | None = None,
        alone: Alone | None = None,
    ) -> TargetNats:
        """Return the nats of every target at a drawn z."""
        ...


IsTarget = Callable[
    [Int[Tensor, "batch length"], Float[Tensor, "batch length"]], Bool[Tensor, "batch length"]
]


@dataclass(frozen=True, eq=False)
class Shown:
    """A batch and the SNRs at which it is shown.

    Attributes:
        tokens: A batch of training text, -1 where there is no token.
        left: γ of every token, in `[0, ∞]`, as those to its right see it.
        right: The same as those to its left see it; None where both sides see the same.
        is_full: Whether each row has a token at every place, as far as that is known on the CPU;
            empty where it is not.
        alone: Which sequences are asked for once more, given the left of each token alone; None
            where none is.
    """

    tokens: Int[Tensor, "batch length"]
    left: Float[Tensor, "batch length"]
    right: Float[Tensor, "batch length"] | None
    is_full: tuple[bool, ...] = ()
    alone: Alone | None = None

    def weighed(
        self, values: Float[Tensor, "rows length"] | Bool[Tensor, "rows length"], rows: slice
    ) -> Real[Tensor, ""]:
        """Return the sum of some rows' values; those of a row asked for twice weigh more.

        Args:
            values: Values of every token of the rows.
            rows: The rows.

        Returns:
            The sum, in which a question counts with its weight.
        """
        if self.alone is None:
            return values.sum()
        return (values * (1 + self.alone.weight[rows, None])).sum()

    def nats(self, model: Trainable, generator: Randomness, rows: slice) -> TargetNats:
        """Return the nats of every target of some rows.

        Args:
            model: The model to train.
            generator: Source of the noise of these rows.
            rows: The rows.

        Returns:
            As `LocalizationModel.token_nats`; one denoiser call.
        """
        right = None if self.right is None else self.right[rows]
        is_full = all(self.is_full[rows]) if self.is_full else None
        shown = self.tokens[rows], self.left[rows], right, generator, is_full
        if self.alone is None:
            return model.token_nats(*shown)
        return model.token_nats(*shown, Alone(*(part[rows] for part in self.alone)))


def cross_entropy(
    model: Trainable,
    tokens: Int[Tensor, "batch length"],
    law: SnrLaw | SidedSnrLaw,
    generator: torch.Generator,
    first_label: int = 0,
    boundary: int | None = None,
) -> Float[Tensor, ""]:
    """Return the average nats per target of a batch.

    Labels are a condition: given with all of a sequence or, one time in ten, with none of it, so
    that the same model learns `P(x|y)` and `P(x)`. Under the distribution of the other tokens a
    label would hardly ever be known where little else is.

    Args:
        model: The model to train; the codes of learned codebooks receive gradients through z.
        tokens: A batch of training text, -1 where there is no token, on the CPU or with the model.
        law: Which γ to show; one with sides of its own only to a two-sided model.
        generator: Source of γ and of the noise.
        first_label: The first token that is a label; 0 when there are none.
        boundary: The token at both ends of a sequence, which both sides always know; None where
            texts have no ends.

    Returns:
        The loss, in nats per target; 0 if there is none.
    """
    batch = shown(tokens, law, generator, first_label, boundary)
    every = slice(0, len(tokens))
    nats, is_target = batch.nats(model, WholeBatch(generator, len(tokens)).rows(every), every)
    total = batch.weighed(is_target, every)
    return batch.weighed(nats, every) / total.clamp(min=1)


@dataclass(frozen=True)
class Share:
    """Which rows of a batch a process computes.

    Attributes:
        number: Number of the process.
        of: How many processes share the batch.
    """

    number: int = 0
    of: int = 1

    def rows(self, num_rows: int) -> slice:
        """Return the rows of this process, of a row's difference in number to another's.

        Args:
            num_rows: Rows of the batch.

        Returns:
            The rows; none of a batch of fewer rows than processes.
        """
        return slice(num_rows * self.number // self.of, num_rows * (self.number + 1) // self.of)


ALONE = Share()


def cross_entropy_in_parts(
    model: Trainable,
    is_target: IsTarget,
    batch: Shown,
    generator: torch.Generator,
    num_parts: int,
    share: Share = ALONE,
) -> list[Callable[[], Float[Tensor, ""]]]:
    """Return functions that compute the parts of a batch's average nats per target.

    Args:
        model: The model to train.
        is_target: Which tokens are targets: see `LocalizationModel.is_target`.
        batch: The batch.
        generator: Source of the noise, as after `shown`.
        num_parts: How many parts, at least 1; fewer if a process has fewer rows.
        share: The process that computes them.

    Returns:
        The parts in order, of a row's difference in size; each is to be called once. The losses and
        gradients add up to those of `cross_entropy`, to rounding, averaged over processes if there
        are several. One denoiser call each.
    """
    num_rows = len(batch.tokens)
    rows, weight = share.rows(num_rows), share.of
    if rows.start == rows.stop:  # it takes part in what the processes do together
        rows, weight = slice(0, 1), 0
    # As many in every process: each may wait for the others in every part.
    num = max(1, min(num_parts, num_rows // share.of))
    every = slice(0, num_rows)
    total = batch.weighed(is_target(batch.tokens, batch.left), every).clamp(min=1)
    noise = WholeBatch(generator, num_rows)

    def part(rows: slice) -> Float[Tensor, ""]:
        nats = batch.nats(model, noise.rows(rows), rows).nats
        return batch.weighed(nats, rows) / total * weight

    bounds = [rows.start + (rows.stop - rows.start) * n // num for n in range(num + 1)]
    return [partial(part, slice(*pair)) for pair in pairwise(bounds)]


def shown(
    tokens: Int[Tensor, "batch length"],
    law: SnrLaw | SidedSnrLaw,
    generator: torch.Generator,
    first_label: int = 0,
    boundary: int | None = None,
) -> Shown:
    """Return a batch at drawn SNRs; labels and boundaries as for `cross_entropy`.

    Args:
        tokens: A batch of training text, -1 where there is no token. From the CPU they are moved to
            the generator's device.
        law: Which γ to show.
        generator: Source of γ.
        first_label: The first token that is a label; 0 when there are none.
        boundary: The token at both ends of a sequence; None where texts have no ends.

    Returns:
        The batch.
    """
    # Asked on the CPU, where nobody waits for the answer.
    is_full = tuple((tokens >= 0).all(1).tolist()) if tokens.is_cpu else ()
    if tokens.is_cpu:
        tokens = tokens.to(generator.device, non_blocking=True)
    num_rows, length = tokens.shape
    left, right, weight = draw_sides(law, num_rows, length, generator)
    left, right = left.to(tokens.device), None if right is None else right.to(tokens.device)
    bare = torch.zeros_like(left)
    if first_label:
        is_given = draw_uniform((num_rows, 1), generator).to(left) >= UNLABELLED_SHARE
        label_snr = torch.zeros_like(left).masked_fill(is_given, torch.inf)
        is_label = tokens >= first_label
        left, bare = (torch.where(is_label, label_snr, side) for side in (left, bare))
        right = None if right is None else torch.where(is_label, label_snr, right)
    if boundary is not None:
        is_boundary = tokens == boundary
        left, bare = (side.masked_fill(is_boundary, torch.inf) for side in (left, bare))
        right = None if right is None else right.masked_fill(is_boundary, torch.inf)
    alone = None if weight is None else Alone(weight.to(left.device), bare)
    return Shown(tokens, left, right, is_full, alone)
