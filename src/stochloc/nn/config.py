"""What a localization model is made of, as one flat value that JSON can hold."""

import math
from dataclasses import dataclass

from stochloc.core import Codebook, LearnedCodebook, RandomCodebook, SimplexCodebook
from stochloc.nn.backbones import ARCHITECTURES, ENCODER, Backbone, leaves_out
from stochloc.nn.declared import check_types
from stochloc.nn.places import ROTARY, Coordinates, coordinates

# Beyond any model there is; what is larger comes from a damaged or a hostile file.
LARGEST = {"vocabulary_size": 10**8, "width": 10**6, "depth": 10**5, "code_dimension": 10**6}


@dataclass(frozen=True)
class ModelConfig:
    """What a localization model is made of.

    Attributes:
        vocabulary_size: Number of tokens, V.
        width: Width of the transformer.
        depth: Number of transformer blocks.
        heads: Attention heads per block.
        code_dimension: Dimension d of the codes; 0 for the simplex's corners, where `d = V`.
        evidence: Whether the evidence `z Eᵀ` is added to the logits.
        unigram: Whether token frequencies enter the converter and the logits as a prior.
        mask_slot: Whether the converter has an extra slot for tokens with weak evidence.
        beta: Initial β of the converter; 0 for the paper's `1/√d`.
        rotary_base: Ratio of the slowest to the fastest rotation of the rotary positions.
        neighbour_logit: Attention logit with which heads begin to look at their neighbours; 0 for
            heads without biases.
        architecture: Name of the backbone, one of `nn.backbones.ARCHITECTURES`.
        head_bias: Whether the logits have a learned bias for each token, which the converter does
            not see.
        given_tokens: How many tokens, the last of the vocabulary, are only ever given: boundaries
            and labels. They have probability 0 wherever they are not known, and are no target.
            The first of them is the boundary before and after a sequence; labels, if there are
            any, stand in front of it.
        fixed_codes: Whether codes of a dimension are random and stay as drawn, or are learned.
        positions: Coordinates of the places of a text, a line as in `nn.places`; rotary positions
            are used whatever it is.
    """

    vocabulary_size: int
    width: int = 128
    depth: int = 4
    heads: int = 4
    code_dimension: int = 0
    evidence: bool = True
    unigram: bool = True
    mask_slot: bool = False
    beta: float = 0.0
    rotary_base: float = 10_000.0
    neighbour_logit: float = 0.0
    architecture: str = ENCODER
    head_bias: bool = False
    given_tokens: int = 0
    fixed_codes: bool = False
    positions: str = ROTARY

    def __post_init__(self) -> None:
        check_types(self)
        if self.architecture not in ARCHITECTURES:
            raise ValueError(
                f"There is no architecture {self.architecture[:40]!r}; "
                f"those there are: {', '.join(ARCHITECTURES)}."
            )
        if self.vocabulary_size < 1:
            raise ValueError(
                f"A model needs a positive vocabulary_size, not {self.vocabulary_size}."
            )
        if not self.evidence and leaves_out(self.architecture):
            raise ValueError(
                f"A {self.architecture} network never looks at a token's own evidence, so it must "
                "be added: evidence=False is for one that does, such as an encoder."
            )
        _ = self.backbone  # Refuses sizes and positions that no backbone can have.
        for name, largest in LARGEST.items():
            if getattr(self, name) > largest:
                raise ValueError(f"A model has a {name} of at most {largest}.")
        if not 0 <= self.beta < math.inf:
            raise ValueError(f"β starts at 0 or more, not at {self.beta}.")
        if self.code_dimension < 0:
            raise ValueError(f"Codes cannot have {self.code_dimension} dimensions.")
        if self.fixed_codes and not self.code_dimension:
            raise ValueError(
                "Codes that are fixed at random need a code_dimension; without one the codes are "
                "the simplex's corners, which are fixed anyway."
            )
        if not 0 <= self.given_tokens < self.vocabulary_size:
            raise ValueError(
                f"Of {self.vocabulary_size} tokens, {self.given_tokens} cannot be only ever given."
            )
        coordinates(self.positions)  # Refuses what describes none.

    @property
    def num_predicted(self) -> int:
        """How many tokens have a probability, the first of the vocabulary."""
        return self.vocabulary_size - self.given_tokens

    @property
    def places(self) -> Coordinates:
        """The coordinates of the tokens of a text; none where places have no meaning."""
        return coordinates(self.positions)

    @property
    def num_before(self) -> int:
        """How many tokens stand in front of the text of a sequence: a label and a boundary."""
        return min(self.given_tokens, 2)

    @property
    def num_after(self) -> int:
        """How many tokens stand behind the text of a sequence: a boundary."""
        return min(self.given_tokens, 1)

    @property
    def backbone(self) -> Backbone:
        """The size and the positions of the backbone, as one value."""
        return Backbone(self.width, self.depth, self.heads, self.rotary_base, self.neighbour_logit)

    def codebook(self) -> Codebook:
        """Return the codes with which a model of this kind begins."""
        if not self.code_dimension:
            return SimplexCodebook(self.vocabulary_size)
        kind = RandomCodebook if self.fixed_codes else LearnedCodebook
        return kind(self.vocabulary_size, self.code_dimension)
