"""Two causal stacks that never look at the token they predict.

Bayes' rule on the sphere splits what is known of a token into its own evidence and its context,

    P(x_i|z) ∝ exp(z_i·x_i) P(x_i|z_-i),

and a network that gives the second factor must not depend on `z_i`. One stack reads from the left,
shifted by one place, and the other from the right; a perceptron joins them at every place:

    left_i  = causal stack over (start, c_1, ..., c_{i-1})
    right_i = causal stack over (start, c_L, ..., c_{i+1})
    hidden_i = norm(left_i + right_i + MLP(left_i, right_i))

where `c_j` is the embedding of token j. Where places have coordinates, an embedding of
those of place i is added to the inputs `c_(i-1)` and `c_(i+1)` from which it is predicted.

Since each stack reads its own copy of the embeddings, the two sides of a token may be shown at
different SNRs: with the left known and the right unknown everywhere, `hidden_i` is what a
left-to-right model makes of `x_<i`.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stochloc.nn.backbones.base import Backbone
from stochloc.nn.backbones.encoder import Transformer
from stochloc.nn.backbones.past import Past
from stochloc.nn.backbones.squared_relu import squared_relu
from stochloc.nn.backbones.surroundings import EVERYWHERE, Surroundings


class TwoSidedTransformer(nn.Module):
    """A causal stack over what lies left of a token, one over what lies right, and a join.

    Args:
        size: Width, heads, positions and the number of blocks of both stacks together.
        right_depth: Blocks of the right stack, the smaller half of all where absent. A stack
            without blocks sees one neighbour.
    """

    leaves_out = True

    def __init__(self, size: Backbone, right_depth: int | None = None) -> None:
        super().__init__()
        right_depth = size.depth // 2 if right_depth is None else right_depth
        self.left = size.stack(size.depth - right_depth, causal=True)
        self.right = size.stack(right_depth, causal=True)
        self.starts = nn.Parameter(torch.randn(2, size.width))
        self.join = Join(size.width)

    @classmethod
    def mostly_left(cls, size: Backbone) -> "TwoSidedTransformer":
        """Return one with a quarter of its blocks, rounded down, in the right stack.

        Args:
            size: As of the class.

        Returns:
            The network, with new weights.
        """
        return cls(size, size.depth // 4)

    def forward(
        self,
        left: Float[Tensor, "#batch length width"],
        right: Float[Tensor, "#batch length width"] | None = None,
        around: Surroundings = EVERYWHERE,
    ) -> Float[Tensor, "#batch length width"]:
        """Return the hidden state of each token, computed from its context.

        Args:
            left: Embeddings as those to their right see them; one row if all are alike.
            right: Embeddings as those to their left see them; one row if all are alike, those of
                the left when absent.
            around: Which places are absent: the left stack reads them after all of a sequence,
                and so does the right one, which begins at the sequence's last token. And the
                coordinates of the predicted places.

        Returns:
            Normalised embeddings; place i depends on `left` before i and on `right` after i alone.
        """
        from_left = self.from_left(left, around)
        from_right = self.from_right(left if right is None else right, around)
        return self.join(*torch.broadcast_tensors(from_left, from_right))

    def from_left(
        self, left: Float[Tensor, "rows length width"], around: Surroundings = EVERYWHERE
    ) -> Float[Tensor, "rows length width"]:
        """Return what the left stack makes of the tokens before each place.

        Args:
            left: Embeddings as those to their right see them.
            around: As for `forward`.

        Returns:
            The first of the two sides that `join` takes; place i depends on `left` before i alone.
        """
        return self.left(_shifted(left, self.starts[0], around.targets))

    def from_right(
        self, right: Float[Tensor, "rows length width"], around: Surroundings = EVERYWHERE
    ) -> Float[Tensor, "rows length width"]:
        """Return what the right stack makes of the tokens behind each place.

        Args:
            right: Embeddings as those to their left see them.
            around: As for `forward`.

        Returns:
            The second of the two sides that `join` takes; place i depends on `right` after i alone.
        """
        targets = None if around.targets is None else around.turned(around.targets)
        return around.turned(self.right(_shifted(around.turned(right), self.starts[1], targets)))

    def read(
        self, right: Float[Tensor, "batch length width"], around: Surroundings = EVERYWHERE
    ) -> "TwoSidedReader":
        """Return a reader that computes place by place, from left to right.

        Args:
            right: Embeddings as those to their left see them.
            around: The coordinates of the predicted places; none of them is absent.

        Returns:
            A reader at the left end, for one pass. The right stack has run.
        """
        from_right = self.from_right(right, around)
        return TwoSidedReader(self.left, self.join, self.starts[0], from_right, around.targets)

    def within(
        self,
        embedded: Float[Tensor, "batch length width"],
        begin: int,
        end: int,
        around: Surroundings = EVERYWHERE,
    ) -> "TwoSidedStretch":
        """Return the network for texts that are this one outside of a stretch.

        Args:
            embedded: Embeddings of the text, whatever they are in the stretch.
            begin: The first place of the stretch.
            end: The first place after it.
            around: The coordinates of the predicted places; none of them is absent.

        Returns:
            A network that computes the stretch alone. Both stacks have run over the rest.
        """
        targets = None if around.targets is None else around.targets.flip(1)
        return TwoSidedStretch(
            Side(self.left, self.starts[0], embedded, around.targets, begin, end),
            Side(
                self.right,
                self.starts[1],
                embedded.flip(1),
                targets,
                embedded.shape[1] - end,
                embedded.shape[1] - begin,
            ),
            self.join,
        )


class TwoSidedReader:
    """A two-sided network that is shown the left side token by token, and remembers it.

    Args:
        left: The causal stack over the left side.
        join: Joins both sides of a place.
        start: What the left stack is shown before the first token, `(W,)`.
        from_right: The output of the right stack at every place.
        targets: Embeddings of the predicted places' own coordinates, `(1, L, W)`; None for none.
    """

    def __init__(
        self,
        left: Transformer,
        join: "Join",
        start: Float[Tensor, " width"],
        from_right: Float[Tensor, "batch length width"],
        targets: Float[Tensor, "rows length width"] | None = None,
    ) -> None:
        self.left, self.join, self.start, self.from_right = left, join, start, from_right
        self.targets = targets
        self.past: list[Past] = []
        self.place = 0

    def next(self, left: Float[Tensor, "batch more width"]) -> Float[Tensor, "batch 1 width"]:
        """Return the hidden state of the place after more tokens, from both sides.

        Args:
            left: Embeddings of the tokens that come next; none for the first place, or more.

        Returns:
            The output of the network there, to rounding that of `forward`. Costs these tokens, and
            attention to those before.
        """
        self.place += left.shape[1]
        if not self.past:
            left = torch.cat([self.start.to(left).expand(len(left), 1, -1), left], 1)
        assert left.shape[1], "a place is computed once"
        if self.targets is not None:
            left = left + self.targets[:, self.place + 1 - left.shape[1] : self.place + 1]
        from_left, self.past = self.left.extend(left, self.past)
        here = slice(self.place, self.place + 1)
        return self.join(from_left[:, -1:], self.from_right[:, here])


class Side:
    """A causal stack that has read the places before a stretch, and computes the stretch.

    Args:
        stack: The stack.
        start: What it is shown before the first token, `(W,)`.
        embedded: Embeddings of a text, in the order in which the stack reads.
        targets: Embeddings of the predicted places' own coordinates, in that order; None for none.
        begin: The first place of the stretch, in that order.
        end: The first place after it.
    """

    def __init__(
        self,
        stack: Transformer,
        start: Float[Tensor, " width"],
        embedded: Float[Tensor, "batch length width"],
        targets: Float[Tensor, "rows length width"] | None,
        begin: int,
        end: int,
    ) -> None:
        shown = _shifted(embedded, start, targets)
        self.stack, self.first = stack, shown[:, begin : begin + 1]
        self.targets = None if targets is None else targets[:, begin + 1 : end]
        self.past = stack.extend(shown[:, :begin], [])[1] if begin else []

    def __call__(
        self, embedded: Float[Tensor, "batch stretch width"]
    ) -> Float[Tensor, "batch stretch width"]:
        """Return the output of the stack at every place of the stretch.

        Args:
            embedded: Embeddings of the stretch, in the order in which the stack reads.

        Returns:
            What the stack returns there for the whole text, to rounding.
        """
        later = embedded[:, :-1] if self.targets is None else embedded[:, :-1] + self.targets
        return self.stack.extend(torch.cat([self.first, later], 1), self.past)[0]


class TwoSidedStretch:
    """A two-sided network for texts that differ in one stretch.

    Args:
        left: The left stack, which has read what stands before the stretch.
        right: The right stack, which has read what stands behind it.
        join: Joins both sides of a place.
    """

    def __init__(self, left: Side, right: Side, join: "Join") -> None:
        self.left, self.right, self.join = left, right, join

    def __call__(
        self,
        left: Float[Tensor, "batch stretch width"],
        right: Float[Tensor, "batch stretch width"],
    ) -> Float[Tensor, "batch stretch width"]:
        """Return the hidden state of each token of the stretch, computed from its context.

        Args:
            left: Embeddings as those to their right see them.
            right: Embeddings as those to their left see them.

        Returns:
            The output of the network there, to rounding that of `forward`.
        """
        return self.join(self.left(left), self.right(right.flip(1)).flip(1))


class Join(nn.Module):
    """The sum of both sides and of a two-layer perceptron on them, normalised.

    Args:
        width: Width of the embeddings.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp_in = nn.Linear(2 * width, 4 * width, bias=False)
        self.mlp_out = nn.Linear(4 * width, width, bias=False)
        self.norm = nn.LayerNorm(width, bias=False)
        for linear in (self.mlp_in, self.mlp_out):
            nn.init.normal_(linear.weight, std=1 / math.sqrt(linear.in_features))

    def forward(
        self,
        left: Float[Tensor, "batch length width"],
        right: Float[Tensor, "batch length width"],
    ) -> Float[Tensor, "batch length width"]:
        """Return one embedding made of two."""
        both = torch.cat([left, right], -1)
        return self.norm(left + right + self.mlp_out(squared_relu(self.mlp_in(both))))


def _shifted(
    x: Float[Tensor, "batch length width"],
    start: Float[Tensor, " width"],
    targets: Float[Tensor, "rows length width"] | None,
) -> Float[Tensor, "batch length width"]:
    before = torch.cat([start.to(x).expand(len(x), 1, -1), x[:, :-1]], 1)
    return before if targets is None else before + targets
