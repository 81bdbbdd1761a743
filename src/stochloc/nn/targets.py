"""What training asks a network: which tokens, given both of their sides or the left one alone.

A network that leaves a token out computes its left and its right side apart and joins them. Where a
sequence has a known left, the join answers a second question at little cost: the same tokens given
the left alone, which a left-to-right model is asked. On the right nothing is known then, so what
the right stack makes of it is the same for all sequences and computed once; where labels or
boundaries are known whatever else is, it is computed for each.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from stochloc.core import UNKNOWN, State
from stochloc.nn.backbones import SidedNetwork, Surroundings


class TargetNats(NamedTuple):
    """The cross-entropy that training minimises.

    Attributes:
        nats: Cross-entropy of every token; 0 where it is no target.
        is_target: Which tokens are targets of the prediction.
    """

    nats: Float[Tensor, "batch length"]
    is_target: Bool[Tensor, "batch length"]


class Alone(NamedTuple):
    """Which sequences are asked for once more, with nothing known on the right of a token.

    Attributes:
        weight: Weight of the second question, at least 0; of the first it is 1.
        snr: γ of every token on the right in the second question: 0, or ∞ of what all are told.
    """

    weight: Float[Tensor, " batch"]
    snr: Float[Tensor, "batch length"]

    @property
    def rows(self) -> Int[Tensor, " rows"]:
        """The sequences that are asked for once more."""
        return self.weight.nonzero()[:, 0]

    def state(
        self, left: State, tokens: Int[Tensor, "batch length"], rows: Int[Tensor, " rows"]
    ) -> State:
        """Return what these sequences show to the left in the second question.

        Args:
            left: What all sequences show to the right.
            tokens: The true tokens, in `[0, V)`.
            rows: These sequences; finding them waits for the device, so they are found once.

        Returns:
            A state without noise.
        """
        known = torch.where(self.snr[rows].isinf(), tokens[rows], UNKNOWN)
        return State(torch.zeros_like(left.z[rows]), known, self.snr[rows])

    def averaged(
        self, nats: Float[Tensor, "both length"], rows: Int[Tensor, " rows"]
    ) -> Float[Tensor, "batch length"]:
        """Return the weighted mean of both questions.

        Args:
            nats: Those of all sequences and, behind them, of the second question.
            rows: The sequences of the second question.

        Returns:
            Nats of every token.
        """
        first, second = nats.split([len(self.weight), len(rows)])
        weight = self.weight[:, None].to(nats)
        return first.index_add(0, rows, weight[rows] * second) / (1 + weight)


def and_again(state: State, rows: Int[Tensor, " rows"]) -> State:
    """Return the state of a batch and, behind it, of some of its sequences once more.

    Args:
        state: The state of the batch.
        rows: Their numbers.

    Returns:
        One state.
    """
    parts = state.z, state.known, state.snr
    return State(*(torch.cat([part, part[rows]]) for part in parts))


def hidden_of_both(
    network: SidedNetwork,
    left: Float[Tensor, "batch length width"],
    right: Float[Tensor, "batch length width"],
    bare: Float[Tensor, "some length width"],
    rows: Int[Tensor, " rows"],
    around: Surroundings,
) -> Float[Tensor, "both length width"]:
    """Return what a network makes of a batch and, behind it, of the second question.

    Args:
        network: The network.
        left: Embeddings as those to their right see them.
        right: The same as those to their left see them.
        bare: The same in the second question, of its sequences or one for all of them.
        rows: Its sequences.
        around: The surroundings of the batch.

    Returns:
        Hidden states; the cost is that of the batch, of `bare` in the right stack, and of the join.
    """
    from_left = network.from_left(left, around)
    # At once: what shards a stack's weights gathers them for one computation.
    from_right = network.from_right(torch.cat([right, bare]), around.and_again(rows))
    first, second = from_right[: len(right)], from_right[len(right) :].expand(len(rows), -1, -1)
    return network.join(torch.cat([from_left, from_left[rows]]), torch.cat([first, second]))
