"""Embeddings of what places mean, added to those of their tokens.

Every value of every coordinate (`nn.places`) has a vector of its own, and a place has their sum:

    p_i = Σ_c  W_c[coordinate c of the token i].

The coordinates are those of the text. The label in front of a sequence and its boundaries have
none, and p = 0.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from stochloc.nn.places import Coordinates


class PlaceEmbedding(nn.Module):
    """One embedding for each place of a sequence; together of variance 1 at the start.

    Args:
        table: The coordinates of the tokens of a text, in order; not empty.
        width: Width W of the embeddings.
        before: Tokens of a sequence in front of its text.
        after: Tokens of a sequence behind its text.
    """

    def __init__(self, table: Coordinates, width: int, before: int, after: int) -> None:
        super().__init__()
        self.before, self.after = before, after
        # One matrix for all coordinates, with a row for each value that occurs, in order.
        pairs = [tuple(enumerate(row)) for row in table]
        number = {pair: n for n, pair in enumerate(sorted({p for row in pairs for p in row}))}
        rows = torch.tensor([[number[pair] for pair in row] for row in pairs])
        self.register_buffer("rows", rows, persistent=False)
        self.rows: Tensor
        scale = 1 / math.sqrt(len(table[0]))
        self.vectors = nn.Parameter(scale * torch.randn(len(number), width))

    def forward(
        self, length: int, present: Bool[Tensor, "batch length"] | None = None
    ) -> Float[Tensor, "rows length width"]:
        """Return the embedding of every place.

        Args:
            length: Number of places L, those in front of the text and behind it included.
            present: Which places hold a token, the first ones of each sequence; None for all.

        Returns:
            Embeddings, one row for all sequences or one for each.

        Raises:
            ValueError: A text is longer than the table.
        """
        ends = torch.tensor([[length]]) if present is None else present.sum(1, keepdim=True)
        ends = ends.to(self.rows.device) - self.after
        longest, known = int(ends.max()) - self.before, len(self.rows)
        if longest > known:
            raise ValueError(
                f"The positions of this model are those of texts of up to {known} tokens, and a "
                f"text has {longest}."
            )
        places = torch.arange(length, device=self.rows.device)
        is_text = (places >= self.before) & (places < ends)
        embedded = F.pad(F.embedding(self.rows, self.vectors).sum(1), (0, 0, 0, 1))
        # The row added at the end is 0.
        return F.embedding(torch.where(is_text, places - self.before, known), embedded)
