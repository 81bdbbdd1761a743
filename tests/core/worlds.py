"""Small worlds whose every probability is known, and the lists that the contract tests run over."""

from dataclasses import dataclass

import torch
from torch import Tensor

from stochloc.core import (
    CERTAINTIES,
    AllDifferent,
    Ancestral,
    Apart,
    Autoregressive,
    Backtrack,
    Block,
    Capped,
    CircleCodebook,
    Codebook,
    Corrected,
    Curvature,
    Custom,
    Decode,
    Denoiser,
    DensePosterior,
    Diffusion,
    Euler,
    ExactDenoiser,
    Follow,
    Geometric,
    Interleaved,
    LeastConfident,
    Lomax,
    Looped,
    LowEntropy,
    Masked,
    Path,
    Policy,
    Posterior,
    Remasking,
    Rescaled,
    Reveal,
    RevealAbove,
    RevealApart,
    Rolling,
    Share,
    SimplexCodebook,
    Spread,
    State,
    Sweep,
    Together,
    Tolerance,
    Transition,
    Uniform,
    start,
)
from stochloc.data import Cyclic, MarkovChain

# A new path joins the contract by a line here; EXACT_PATHS never decide dependent tokens together.
EXACT_PATHS: dict[str, Path] = {
    "diffusion, lomax": Diffusion(Lomax()),
    "diffusion, uniform then autoregressive": Diffusion(Uniform(4.0)).then(Autoregressive()),
    "diffusion, geometric then masked": Diffusion(Geometric(6.0)).then(Masked(), share=0.3),
    "masked": Masked(),
    "spread": Spread(),
    "sweep": Sweep(),
    "autoregressive": Autoregressive(),
    "block, masked": Block(2, Masked()),
    "block, diffusion": Block(2, Diffusion(Lomax())),
    "rolling, to infinity": Rolling(2, Lomax()),
    "custom then masked": Custom(torch.linspace(0, 2, 25)).then(Masked()),
    "custom then spread": Custom(torch.linspace(0, 2, 25)).then(Spread()),
}
# These decide several tokens at once at a large γ, where their dependence is all but resolved.
COARSE_PATHS: dict[str, Path] = {
    "diffusion, lomax then decode": Diffusion(Lomax(snr_max=60.0)).then(Decode(), share=0.1),
    "diffusion, finite": Diffusion(Geometric(60.0)),
    "rolling, finite": Rolling(3, Lomax(snr_max=60.0)),
    "custom": Custom(torch.tensor([0.0, 0.3, 1.0, 2.0, 4.0, 8.0, 16.0, 60.0, torch.inf])),
    "custom, interleaved": Interleaved((0.0, 0.0, 0.5, 0.5, 1.0), (0.0, 1.0, 1.0, 3.0, 3.5)),
    "custom, interleaved, spread": Interleaved(
        (0.0, 0.0, 0.5, 0.75, 1.0), (0.0, 1.0, 1.0, 3.0, 3.5), Apart(4)
    ),
}
PATHS = {**EXACT_PATHS, **COARSE_PATHS}
# A new policy that looks at the posterior joins the contract by a line here; these only go up.
# Measures of certainty join by their own table.
CLIMBING: dict[str, Policy] = {
    **{f"reveal by {name}": Reveal(measure()) for name, measure in CERTAINTIES.items()},
    **{f"share by {name}": Share(measure()) for name, measure in CERTAINTIES.items()},
    "reveal above a threshold": RevealAbove(0.8),
    "reveal the most confident apart": RevealApart(),
    "share by entropy, sharply": Share(LowEntropy(), Lomax(snr_max=20.0), sharpness=3.0),
    "curvature, finite difference": Curvature(delta=0.3),
    "tolerance": Tolerance(0.2),
}
# These make corrector rounds, and have no bound.
CORRECTED: dict[str, Policy] = {
    "masked, corrected": Corrected(Follow(Masked())),
    "masked, corrected one by one": Corrected(Follow(Masked()), rounds=2, share=0.6),
    "diffusion, corrected": Corrected(Follow(Diffusion(Lomax())), share=0.6, snr=0.5),
    "diffusion, corrected together": Corrected(
        Follow(Diffusion(Lomax())), rounds=2, share=0.3, snr=0.5, redraw=Together()
    ),
    "confidence, corrected": Corrected(
        Reveal(), share=0.5, snr=0.2, choice=LeastConfident(), redraw=Together()
    ),
}
# These take tokens back themselves.
REMASKING: dict[str, Policy] = {
    "remasking, capped": Remasking(Capped(0.2)),
    "remasking, rescaled": Remasking(Rescaled(0.3)),
    "remasking, by confidence": Remasking(Rescaled(1.0), by_confidence=True),
    "remasking, looped": Remasking(Looped(0.1)),
    "backtracking": Backtrack(AllDifferent([(0, 1)]), 0.8),
}
BOUNDED = {**CLIMBING, **REMASKING}
ADAPTIVE = {**BOUNDED, **CORRECTED}
TRANSITIONS: dict[str, Transition] = {"euler": Euler(), "ancestral": Ancestral()}


@dataclass(frozen=True)
class World:
    """A data set with its exact denoiser."""

    denoiser: ExactDenoiser

    @property
    def codebook(self) -> Codebook:
        return self.denoiser.codebook

    @property
    def length(self) -> int:
        return self.denoiser.sequences.shape[1]

    def every_sequence(self, copies: int) -> Tensor:
        return self.denoiser.sequences.repeat_interleave(copies, 0)


class Incoherent:
    """A two-sided denoiser whose conditionals belong to no joint distribution."""

    def __init__(self, codebook: Codebook, length: int, strength: float, seed: int = 0) -> None:
        self.codebook = codebook.double()
        shape = (length, length, codebook.dimension, 6)
        source = generator(seed)
        weights = torch.randn(shape, generator=source, dtype=torch.float64)
        places = torch.ones(length, length, dtype=torch.bool)
        self.from_left = weights * places.tril(-1)[..., None, None]
        self.from_right = weights * places.triu(1)[..., None, None]
        size = codebook.vocabulary_size
        self.bias = torch.randn(length, 6, generator=source, dtype=torch.float64)
        out = torch.randn(length, 6, size, generator=source, dtype=torch.float64)
        self.out = strength * out

    def between(self, left: State, right: State) -> DensePosterior:
        hidden = torch.einsum("bjd,ijdh->bih", self._seen(left), self.from_left)
        hidden = hidden + torch.einsum("bjd,ijdh->bih", self._seen(right), self.from_right)
        scores = torch.einsum("bih,ihv->biv", (hidden + self.bias).tanh(), self.out)
        return DensePosterior(scores.log_softmax(-1), self.codebook)

    def __call__(self, state: State) -> Posterior:
        return self.between(state, state).observed(state)

    def _seen(self, state: State) -> Tensor:
        codes = self.codebook.encode(state.known.clamp(min=0))
        return torch.where(state.is_known[..., None], codes, state.z.tanh())


class OneSided:
    """A denoiser that hides whether it could tell its sides apart."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser, self.codebook = denoiser, denoiser.codebook

    def __call__(self, state: State) -> Posterior:
        return self.denoiser(state)


def unmasks_by_rule(policy: Policy) -> bool:
    """Whether a policy says that it only reveals tokens, and draws nothing to choose them."""
    state = start(SimplexCodebook(3).double(), 1, 4)
    return policy.start(state, 3, generator(0)).unmasks_by_rule


def every_text(size: int, length: int) -> Tensor:
    """All sequences of tokens."""
    return torch.cartesian_prod(*[torch.arange(size)] * length).view(-1, length)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Texts of six tokens, for groups that are far apart.
LONG = ExactDenoiser(
    SimplexCodebook(2).double(),
    *MarkovChain.random(2, generator(3), concentration=0.5).enumerate(6),
)


def full_support(vocabulary: int, length: int, codebook: Codebook, seed: int = 5) -> World:
    sequences = every_text(vocabulary, length)
    weights = 1.5 * torch.randn(len(sequences), generator=generator(seed), dtype=torch.float64)
    return World(ExactDenoiser(codebook.double(), sequences, weights))


def cyclic(size: int) -> World:
    return World(ExactDenoiser(CircleCodebook(size), *Cyclic(size).enumerate(size)))


def markov() -> World:
    chain = MarkovChain.random(3, generator(3), concentration=0.7)
    return World(ExactDenoiser(SimplexCodebook(3).double(), *chain.enumerate(4)))


WORLDS: dict[str, World] = {
    "cyclic 5": cyclic(5),
    "cyclic 7": cyclic(7),
    "full support": full_support(3, 3, SimplexCodebook(3)),
    "markov chain": markov(),
}
