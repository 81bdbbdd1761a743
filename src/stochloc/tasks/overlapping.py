"""Overlapping windows of a long text: each token is judged in the one whose centre is nearest.

A window starts at every half of its width, and the last one ends with the text.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Overlapping:
    """The windows, and whose each token of the text is.

    Attributes:
        places: The places of the text in every window.
        owner: The window of each token.
        column: The place of each token in its window.
    """

    places: Int64[Tensor, "windows width"]
    owner: Int64[Tensor, " length"]
    column: Int64[Tensor, " length"]

    @classmethod
    def of(cls, length: int, width: int) -> "Overlapping":
        """Return the windows of a text.

        Args:
            length: Tokens of the text.
            width: Tokens of a window, at least 1 and at most those of the text.

        Returns:
            The windows, on the CPU.
        """
        last, places = length - width, torch.arange(length)
        starts = torch.tensor([*range(0, last, max(1, width // 2)), last])
        owner = (places - width // 2 - starts[:, None]).abs().argmin(0)
        return cls(starts[:, None] + torch.arange(width), owner, places - starts[owner])

    def gather(self, values: Tensor) -> Tensor:
        """Return, of what is known of every place of every window, that of each token.

        Args:
            values: Shape (windows, width, ...), on the CPU or any other device.

        Returns:
            Shape (length, ...).
        """
        return values[self.owner, self.column]
