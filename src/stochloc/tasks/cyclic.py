"""The paper's exact experiment: cyclic sequences and their analytic denoiser (paper C.1).

K symbols on the circle, the K cyclic shifts as data. Everything is known: `-log P = log K`, the
valid sequences, and the probability of the original given a corrupted one. Three questions: does
every path give `log K`; what fraction of samples is valid after N steps; and how often does a walk
from a masked and corrupted sequence end valid, and equal to the original (figure 2)?
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from stochloc.core import (
    UNKNOWN,
    Ancestral,
    CircleCodebook,
    Curvature,
    Denoiser,
    Diffusion,
    Euler,
    ExactDenoiser,
    Follow,
    JacobianProduct,
    Linearised,
    Lomax,
    Policy,
    State,
    Transition,
    bound,
    line_integral,
    sample,
    start,
)
from stochloc.core.numerics import draw_uniform
from stochloc.data import Cyclic
from stochloc.tasks.paths import named_path

PATHS = ("diffusion", "masked", "spread", "autoregressive", "block", "rolling", "hybrid")
TRANSITIONS: dict[str, Transition] = {"euler": Euler(), "ancestral": Ancestral()}
STEPS = (1, 2, 4, 8, 16, 32, 64, 128)
LINE_INTEGRAL_SAMPLES = 64
SPACING = Lomax(scale=8.0, shape=3.0)
# The recovery experiment's adaptive walk. The paper's 50 steps of δ = 0.01 end at γ = 3, where two
# of five results are not valid; longer steps end at larger γ but favour the original by 0.03.
ADAPTIVE_STEPS, ADAPTIVE_DELTA, ADAPTIVE_SNR_MAX = 200, 0.03, 15.0


@dataclass(frozen=True)
class CyclicExperiment:
    """The experiment for one size.

    Attributes:
        size: K, the number of symbols and the length.
        num_sequences: Sequences per estimate and per fraction.
        recovery_snr: The soft mask's γ₀.
        seed: Seed of all randomness.
    """

    size: int = 7
    num_sequences: int = 1000
    recovery_snr: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size < 2:
            raise ValueError(f"The cyclic data need at least two symbols, not {self.size}.")
        if self.num_sequences < 2:
            raise ValueError(f"At least two sequences are needed, not {self.num_sequences}.")
        if not 0 < self.recovery_snr < math.inf:
            raise ValueError(f"The soft mask's γ must be positive, not {self.recovery_snr}.")

    @property
    def denoiser(self) -> ExactDenoiser:
        """The exact denoiser of the cyclic shifts, their tokens on the circle."""
        return ExactDenoiser(CircleCodebook(self.size), *Cyclic(self.size).enumerate(self.size))

    def run(self) -> dict[str, Any]:
        """Return all results as JSON values."""
        generator = torch.Generator().manual_seed(self.seed)
        denoiser = self.denoiser
        return {
            "size": self.size,
            "log_K": math.log(self.size),
            "num_sequences": self.num_sequences,
            "seed": self.seed,
            "likelihood": self._likelihood(denoiser, generator),
            "valid": self._valid(denoiser, generator),
            "recovery": self._recovery(denoiser, generator),
        }

    def _likelihood(
        self, denoiser: ExactDenoiser, generator: torch.Generator
    ) -> list[dict[str, Any]]:
        tokens = denoiser.sample(self.num_sequences, generator)
        rows = []
        for name in PATHS:
            path = named_path(name, continuous=True)
            integral = line_integral(denoiser, tokens, path, LINE_INTEGRAL_SAMPLES, generator)
            rows.append(
                {
                    "path": name,
                    "estimator": "line integral",
                    "nats": integral.mean,
                    "stderr": integral.stderr,
                    "denoiser_calls": integral.denoiser_calls,
                }
            )
            for label, transition in TRANSITIONS.items():
                walk = bound(
                    denoiser, tokens, Follow(named_path(name)), transition, STEPS[-1], generator
                )
                rows.append(
                    {
                        "path": name,
                        "estimator": f"{label} walk",
                        "nats": walk.mean,
                        "stderr": walk.stderr,
                        "denoiser_calls": walk.denoiser_calls,
                    }
                )
        return rows

    def _valid(self, denoiser: ExactDenoiser, generator: torch.Generator) -> dict[str, Any]:
        policy = Follow(Diffusion(SPACING))
        state = start(denoiser.codebook, self.num_sequences, self.size)
        return {
            label: {
                str(steps): _fraction(
                    denoiser.log_prob(
                        sample(denoiser, state, policy, transition, steps, generator).tokens
                    ).isfinite()
                )
                for steps in STEPS
            }
            for label, transition in TRANSITIONS.items()
        }

    def _recovery(self, denoiser: ExactDenoiser, generator: torch.Generator) -> dict[str, Any]:
        original = denoiser.sample(self.num_sequences, generator)
        state = self.damage(denoiser, original, generator)
        log_posterior = denoiser.sequence_log_posterior(state)
        is_original = (original[:, None] == denoiser.sequences).all(-1)
        exact = log_posterior.exp()[is_original].mean()
        fixed = Follow(Diffusion(SPACING))
        walks = {
            label: {
                str(steps): self._recovered(
                    denoiser, original, state, fixed, transition, steps, generator
                )
                for steps in STEPS
            }
            for label, transition in TRANSITIONS.items()
        }
        remembering = Linearised(denoiser)
        curvature = adaptive_policy(remembering)
        adaptive = {
            label: self._recovered(
                remembering, original, state, curvature, transition, ADAPTIVE_STEPS, generator
            )
            for label, transition in TRANSITIONS.items()
        }
        masked, corrupted = self._damaged_counts()
        return {
            "masked": masked,
            "garbled": corrupted,
            "correct": self.size - masked - corrupted,
            "snr": self.recovery_snr,
            "exact_probability_of_original": float(exact),
            "walks": walks,
            "adaptive": {"steps": ADAPTIVE_STEPS, "delta": ADAPTIVE_DELTA, **adaptive},
        }

    def _recovered(
        self,
        denoiser: Denoiser,
        original: Int[Tensor, "batch length"],
        state: State,
        policy: Policy,
        transition: Transition,
        steps: int,
        generator: torch.Generator,
    ) -> dict[str, Any]:
        tokens = sample(denoiser, state, policy, transition, steps, generator).tokens
        # A sequence is valid if each token is one more than the one before it.
        rises = (tokens - tokens[:, :1]) % self.size == torch.arange(self.size)
        return {
            "valid": _fraction(rises.all(-1)),
            "equal": _fraction((tokens == original).all(-1)),
        }

    def damage(
        self,
        denoiser: ExactDenoiser,
        original: Int[Tensor, "batch length"],
        generator: torch.Generator,
    ) -> State:
        """Mask some tokens, corrupt others at positions unknown to the walk, soft-mask the rest.

        Args:
            denoiser: Gives the codes.
            original: The sequences to damage.
            generator: Source of the positions and of the wrong symbols.

        Returns:
            The start of the recovery: `z = γ₀ e_s` of what is read, 0 where it is masked.
        """
        masked, corrupted = self._damaged_counts()
        rank = draw_uniform(tuple(original.shape), generator).argsort(-1).argsort(-1)
        shift = torch.randint(1, self.size, original.shape, generator=generator)
        is_corrupted = (rank >= masked) & (rank < masked + corrupted)
        seen = torch.where(is_corrupted, (original + shift) % self.size, original)
        snr = torch.full(original.shape, self.recovery_snr, dtype=torch.float64)
        snr = snr.masked_fill(rank < masked, 0.0)
        z = snr[..., None] * denoiser.codebook.encode(seen)
        return State(z, torch.full_like(original, UNKNOWN), snr)

    def _damaged_counts(self) -> tuple[int, int]:
        """Return how many tokens are masked and corrupted: two of seven each, in proportion."""
        count = max(1, round(2 * self.size / 7))
        return (count, count) if 2 * count < self.size else (0, 1)


def adaptive_policy(denoiser: Linearised) -> Curvature:
    """Return the policy of the recovery experiment's adaptive walk, of `ADAPTIVE_STEPS` steps.

    Args:
        denoiser: The denoiser of the walk.

    Returns:
        The paper's algorithm 3.
    """
    return Curvature(JacobianProduct(denoiser), ADAPTIVE_DELTA, snr_max=ADAPTIVE_SNR_MAX)


def _fraction(hits: Bool[Tensor, " batch"]) -> dict[str, float]:
    share = float(hits.double().mean())
    return {"fraction": share, "stderr": math.sqrt(share * (1 - share) / len(hits))}


def describe(results: dict[str, Any]) -> str:
    """Return the results of an experiment as printable tables.

    Args:
        results: What `CyclicExperiment.run` returned.

    Returns:
        Several lines of text.
    """
    size, recovery = results["size"], results["recovery"]
    lines = [f"K = {size}: exact -log P = log K = {results['log_K']:.4f} nats", ""]
    lines.append(f"{'path':16s}{'estimator':18s}{'nats':>8s}  ± stderr  denoiser calls")
    lines += [
        f"{row['path']:16s}{row['estimator']:18s}{row['nats']:8.4f}  ± {row['stderr']:.4f}  "
        f"{row['denoiser_calls']}"
        for row in results["likelihood"]
    ]
    lines += ["", "Fraction of valid samples after N steps along the diffusion path"]
    lines.append(f"{'N':>6s}" + "".join(f"{label:>18s}" for label in TRANSITIONS))
    for steps in map(str, STEPS):
        shares = [_show(results["valid"][label][steps]) for label in TRANSITIONS]
        lines.append(f"{steps:>6s}" + "".join(f"{share:>18s}" for share in shares))
    lines += [
        "",
        f"Recovery: {recovery['masked']} masked, {recovery['garbled']} corrupted, "
        f"{recovery['correct']} correct, soft mask at γ = {recovery['snr']}",
        "exact probability of the original given the damaged text: "
        f"{recovery['exact_probability_of_original']:.3f}",
        f"{'N':>6s}"
        + "".join(f"{label + what:>22s}" for label in TRANSITIONS for what in (" valid", " equal")),
    ]
    for steps in map(str, STEPS):
        walks = [recovery["walks"][label][steps] for label in TRANSITIONS]
        shares = [_show(walk[what]) for walk in walks for what in ("valid", "equal")]
        lines.append(f"{steps:>6s}" + "".join(f"{share:>22s}" for share in shares))
    adaptive = recovery["adaptive"]
    shares = [_show(adaptive[label][what]) for label in TRANSITIONS for what in ("valid", "equal")]
    lines.append(" curv." + "".join(f"{share:>22s}" for share in shares))
    lines.append(
        f"curv.: {adaptive['steps']} steps adapted to curvature, δ = {adaptive['delta']}; "
        "the paper reports 100 % valid and about 50 % equal"
    )
    return "\n".join(lines)


def _show(share: dict[str, float]) -> str:
    return f"{share['fraction']:.3f} ± {share['stderr']:.3f}"
