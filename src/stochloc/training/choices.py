"""What a recipe of localization decides beyond its size: our choices and the paper's, each once.

The presets of `training.recipes` and the methods of a comparison are both made from these.
"""

from dataclasses import dataclass, replace

from stochloc.nn import ENCODER, TWO_SIDED, Backbone, ModelConfig
from stochloc.training.snr import (
    Endpoints,
    IndependentSides,
    LeftToRight,
    Masks,
    SentenceLogNormal,
    SidedSnrLaw,
    SnrLaw,
    TokenLogNormal,
)

# A noisy code of the simplex is V numbers a place; beyond so many tokens codes are random ones.
MOST_CORNERS = 1000
RANDOM_DIMENSION = 64


@dataclass(frozen=True)
class Choices:
    """What a recipe of localization decides; ablations take one choice back.

    Attributes:
        law: Which γ to show in training.
        code_dimension: Dimension of learned codes; 0 for codes that are fixed and far apart, the
            simplex of a small vocabulary and random ones of a large one.
        evidence: Whether the evidence is added to the logits.
        unigram: Whether token frequencies enter as a prior.
        beta: β of the converter at the start; 1 is exact for independent tokens of known
            frequencies, 0 stands for the paper's `1/√d`.
        architecture: Name of the backbone, one of `nn.backbones.ARCHITECTURES`.
    """

    law: SnrLaw | SidedSnrLaw
    code_dimension: int = 0
    evidence: bool = True
    unigram: bool = True
    beta: float = 1.0
    architecture: str = ENCODER

    def model(self, vocabulary_size: int, backbone: Backbone) -> ModelConfig:
        """Return what a model of these choices is made of.

        Args:
            vocabulary_size: Number of tokens, V.
            backbone: Size and positions of its backbone.

        Returns:
            The configuration.
        """
        is_random = not self.code_dimension and vocabulary_size > MOST_CORNERS
        return ModelConfig(
            vocabulary_size,
            backbone.width,
            backbone.depth,
            backbone.heads,
            RANDOM_DIMENSION if is_random else self.code_dimension,
            self.evidence,
            self.unigram,
            beta=self.beta,
            rotary_base=backbone.rotary_base,
            neighbour_logit=backbone.neighbour_logit,
            architecture=self.architecture,
            fixed_codes=is_random,
        )


# Simplex codes, the evidence, the prior, β at the exact posterior's value, a γ of its own for every
# token and both endpoints; of a network that looks at all tokens, the one asked about included.
SHOWN = Endpoints(TokenLogNormal())
SEEING = Choices(SHOWN)
# The same of one that leaves that token out. Of 16 sequences it sees nine with a known left, whose
# tokens it is also asked for given that left alone (docs/results/recipes.md).
SIDED = LeftToRight(SHOWN, 0.0, known_share=9 / 16, alone_weight=0.5)
OURS = replace(SEEING, law=SIDED, architecture=TWO_SIDED)
# Sections 3 and 4, B.1 and C.2 of the paper; 16 dimensions are its authors' public value.
PAPER = Choices(SentenceLogNormal(), code_dimension=16, evidence=False, unigram=False, beta=0.0)
# What `train --law` may ask for.
NAMED_LAWS: dict[str, SnrLaw | SidedSnrLaw] = {
    "sentence": SentenceLogNormal(),
    "token": TokenLogNormal(),
    "endpoints": SHOWN,
    "masks": Masks(),
    "left-to-right": OURS.law,
    "independent-sides": IndependentSides(SHOWN),
}


def named_law(name: str) -> SnrLaw | SidedSnrLaw:
    """Return a distribution of γ by its name.

    Args:
        name: One of `NAMED_LAWS`.

    Returns:
        The distribution.

    Raises:
        ValueError: There is none with that name.
    """
    if name not in NAMED_LAWS:
        raise ValueError(
            f"There is no distribution of γ {name[:40]!r}; those there are: "
            f"{', '.join(NAMED_LAWS)}."
        )
    return NAMED_LAWS[name]
