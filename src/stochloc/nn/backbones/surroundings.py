"""What a backbone is given of a batch besides the embeddings of its tokens.

Sequences of different lengths share a training batch: behind the end of a shorter one are places
without a token. No place that has one may see them, so that a sequence means the same alone and in
any batch. Attention to everything masks them; attention to the left never meets them; and a stack
that reads from the right begins at each sequence's own end, for which its row is turned round:

    x_1 x_2 x_3 · ·   ->   x_3 x_2 x_1 · ·      (place j of n is turned to n - 1 - j, modulo L)
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What is true of the places of a batch, whatever their tokens are.

    Attributes:
        present: Which places hold a token, in each row those before some place and at least one;
            None for all.
        targets: Embeddings of the coordinates of each predicted place; None for none. For
            networks that never see the embedding at the place itself.
    """

    present: Bool[Tensor, "batch length"] | None = None
    targets: Float[Tensor, "#batch length width"] | None = None

    def __post_init__(self) -> None:
        # Elsewhere the check would wait for the device.
        if self.present is not None and self.present.is_cpu:
            first, later = self.present[:, :1], self.present[:, 1:]
            assert bool(first.all()), "a sequence has a token at least"
            assert bool((later <= self.present[:, :-1]).all()), "absent places are at the end"

    def turned(self, x: Float[Tensor, "rows length width"]) -> Float[Tensor, "rows length width"]:
        """Return every sequence from its last token to its first; twice is not at all.

        Args:
            x: Values of every place.

        Returns:
            The same values in another order; those of absent places come last.
        """
        if self.present is None:
            return x.flip(1)
        return x.gather(1, self._turn(self.present)[..., None].expand(-1, -1, x.shape[2]))

    def and_again(self, rows: Int[Tensor, " rows"]) -> "Surroundings":
        """Return the surroundings of the batch and, behind it, of some of its sequences once more.

        Args:
            rows: Their numbers.

        Returns:
            The surroundings; these same ones where they are alike for all sequences.
        """
        if self.present is None:
            return self
        targets = self.targets
        if targets is not None and len(targets) > 1:
            targets = torch.cat([targets, targets[rows]])
        return Surroundings(torch.cat([self.present, self.present[rows]]), targets)

    @staticmethod
    def _turn(present: Bool[Tensor, "batch length"]) -> Int[Tensor, "batch length"]:
        length = present.shape[1]
        places = torch.arange(length, device=present.device)
        return (present.sum(1, keepdim=True) - 1 - places) % length


EVERYWHERE = Surroundings()
