"""SEDD: score entropy (Lou et al. 2024, Discrete diffusion modeling by estimating the ratios).

Tokens are replaced at the rate `σ' = -α'/α` by draws from π. The network learns the ratios
`s(x_t)_y ≈ p_t(x_t with y in the token's place)/p_t(x_t)`, and with `r_y = q(y|x_0)/q(x_t|x_0)`

    -log P(x) <= ∫₀¹ σ' E Σ_i π(x_t) Σ_{y≠x_t} [ s_y - r_y log s_y + r_y (log r_y - 1) ] dt
                 + D( q(x_1|x_0) ‖ π ),

whose minimum is at the true ratios. For masks the authors scale the network's output by `α/(1-α)`,
which leaves the distribution of the masked token to be learned; the output need not sum to 1. Both
networks are conditioned on the time, as in the authors' code
(louaaron/Score-Entropy-Discrete-Diffusion, `model/transformer.py`), although the distribution of a
masked token does not depend on it. Both kernels use the authors' log-linear noise; with the uniform
kernel their geometric noise gives the same bound within its error (docs/development/log.md).
Training times begin at 1e-3, as theirs do (`losses.py`, `sampling_eps`); the bound covers all
times.

Our choices: the time enters as t by an added embedding, theirs as `-log α` by modulating every
layer; training times are stratified over the batch, theirs are drawn independently; masks end at
α = 0, theirs at 1e-3.

Samplers step from t to s with `a = α_t/α_s`. *Tweedie*: the ratios at s follow from those at t,

    p(x_s = y|x_t) ∝ max(0, s_y - (1-a) π(y) Σ_y' s_y') [a δ(y = x_t) + (1-a) π(x_t)],

which is exact for single tokens. *Euler*: jump to y with probability `σ' π(x_t) s_y (t-s)`. The
last step is Tweedie's (the authors' noise removal).
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from stochloc.core.numerics import draw_categorical, in_double
from stochloc.methods.kernel_diffusion import KernelDiffusion
from stochloc.methods.kernels import Kernel, absorbing, uniform
from stochloc.methods.masked import masked_network
from stochloc.methods.method import Drawn, Frame
from stochloc.methods.schedules import Linear, Schedule
from stochloc.nn import token_network

# The authors' ε: at the last time a token is still kept with probability 1e-3.
FLOOR = 1e-3
# At time 1 all tokens are masked and every weight of the sampler is 0: it begins just before.
LATEST = 1 - 1e-6


@runtime_checkable
class Jump(Protocol):
    """A way of taking one step of the reverse process."""

    def probs(
        self,
        ratios: Float[Tensor, "batch length states"],
        noisy: Int[Tensor, "batch length"],
        kernel: Kernel,
        schedule: Schedule,
        times: tuple[float, float],
    ) -> Float[Tensor, "batch length states"]:
        """Return weights of the states at the earlier of two times, at least 0.

        Args:
            ratios: The ratios s, 1 at the present state.
            noisy: The present state.
            kernel: How tokens are replaced by noise.
            schedule: Gives α.
            times: The later time t and the earlier one s.
        """
        ...


class Tweedie:
    """The distribution of each token's earlier state, exact if the ratios are."""

    def probs(
        self,
        ratios: Float[Tensor, "batch length states"],
        noisy: Int[Tensor, "batch length"],
        kernel: Kernel,
        schedule: Schedule,
        times: tuple[float, float],
    ) -> Float[Tensor, "batch length states"]:
        """Return weights of the states at the earlier time."""
        alpha_t, alpha_s = schedule.alpha(torch.tensor(times, dtype=torch.float64)).unbind()
        kept = (alpha_t / alpha_s).to(ratios)
        stationary = kernel.stationary.to(ratios)
        earlier = ratios - (1 - kept) * stationary * ratios.sum(-1, keepdim=True)
        return earlier.clamp(min=0) * kernel.likelihood(noisy, kept)


class EulerJump:
    """Jumps at the rates of the later time; biased, O(t - s)."""

    def probs(
        self,
        ratios: Float[Tensor, "batch length states"],
        noisy: Int[Tensor, "batch length"],
        kernel: Kernel,
        schedule: Schedule,
        times: tuple[float, float],
    ) -> Float[Tensor, "batch length states"]:
        """Return weights of the states at the earlier time."""
        later = torch.tensor(times[0], dtype=torch.float64)
        rate = float(-schedule.slope(later) / schedule.alpha(later)) * (times[0] - times[1])
        here = kernel.one_hot(noisy).to(ratios)
        jumps = rate * kernel.stationary.to(ratios)[noisy][..., None] * ratios * (1 - here)
        return jumps + here * (1 - jumps.sum(-1, keepdim=True)).clamp(min=0)


class Sedd(KernelDiffusion):
    """Score entropy with a kernel; the network predicts logarithms of ratios.

    Args:
        network: Returns `log s`, `(B, L, V)`, given states and time.
        vocabulary_size: Number of tokens, V.
        kernel: How tokens are replaced by noise.
        schedule: Gives α.
        jump: How the sampler steps; None for Tweedie's formula.
    """

    earliest = 1e-3
    held = 18.2

    def __init__(
        self,
        network: nn.Module,
        vocabulary_size: int,
        kernel: Kernel,
        schedule: Schedule,
        jump: Jump | None = None,
    ) -> None:
        super().__init__(network, vocabulary_size, kernel, schedule)
        self.jump = Tweedie() if jump is None else jump

    @classmethod
    def uniform(cls, frame: Frame) -> "Sedd":
        """Return the untrained method with the uniform kernel."""
        size = frame.vocabulary_size
        network = token_network(size, size, frame.backbone, timed=True)
        return cls(network, size, uniform(size), Linear(FLOOR))

    def log_ratios(
        self, noisy: Int[Tensor, "batch length"], time: Float[Tensor, " batch"]
    ) -> Float[Tensor, "batch length vocabulary"]:
        """Return `log s` for every token at every place.

        Args:
            noisy: States.
            time: The time of every sequence.

        Returns:
            Logarithms of ratios to the present state, float64.
        """
        return in_double(self.network(noisy, time))

    def token_nats(
        self,
        tokens: Int[Tensor, "batch length"],
        time: Float[Tensor, " batch"],
        generator: torch.Generator,
    ) -> Float[Tensor, "batch length"]:
        """Return the score entropy times the rate at which tokens are replaced."""
        alpha = self.schedule.alpha(time)[:, None]
        return self.entropy_nats(tokens, self.kernel.noisy(tokens, alpha, generator), time)

    def entropy_nats(
        self,
        tokens: Int[Tensor, "batch length"],
        noisy: Int[Tensor, "batch length"],
        time: Float[Tensor, " batch"],
    ) -> Float[Tensor, "batch length"]:
        """Return what `token_nats` does, for given noisy tokens.

        Args:
            tokens: The true tokens.
            noisy: The noisy tokens.
            time: The time of every sequence.

        Returns:
            Nats of every token.
        """
        alpha = self.schedule.alpha(time)[:, None, None]
        log_s = self.log_ratios(noisy, time)
        probs = self.kernel.forward_probs(self.kernel.one_hot(tokens), alpha)
        ratios = (probs / probs.gather(-1, noisy[..., None]))[..., : self.vocabulary_size]
        entropy = log_s.exp() - ratios * log_s + torch.special.xlogy(ratios, ratios) - ratios
        elsewhere = 1 - self.kernel.one_hot(noisy)[..., : self.vocabulary_size]
        rate = -self.schedule.slope(time)[:, None] / alpha[..., 0]
        arrived = self.kernel.stationary.to(entropy)[noisy]
        return rate * arrived * (entropy * elsewhere).sum(-1)

    @torch.no_grad()
    def sample(
        self, num_sequences: int, length: int, num_steps: int, generator: torch.Generator
    ) -> Drawn:
        """Run the reverse process in N even steps, the last by Tweedie's formula; N calls."""
        times = torch.linspace(LATEST, 0, num_steps + 1, dtype=torch.float64)
        noisy = self.kernel.draw_stationary((num_sequences, length), generator)
        for n in range(num_steps):
            later, earlier = float(times[n]), float(times[n + 1])
            ratios = self._ratios(noisy, later)
            jump = Tweedie() if n == num_steps - 1 else self.jump
            weights = jump.probs(ratios, noisy, self.kernel, self.schedule, (later, earlier))
            if n == num_steps - 1:
                weights = weights[..., : self.vocabulary_size]
            noisy = draw_categorical(weights, generator)
        return Drawn(noisy, num_steps)

    def _ratios(
        self, noisy: Int[Tensor, "batch length"], time: float
    ) -> Float[Tensor, "batch length states"]:
        times = torch.full((len(noisy),), time, dtype=torch.float64, device=noisy.device)
        here = self.kernel.one_hot(noisy)
        ratios = torch.zeros_like(here)
        ratios[..., : self.vocabulary_size] = self.log_ratios(noisy, times).exp()
        return ratios * (1 - here) + here


class SeddAbsorbing(Sedd):
    """Score entropy with the absorbing kernel, the output scaled by `α/(1-α)/V`.

    Args:
        network: Returns `log(V p)`, p the distribution of a masked token, given states and time.
        vocabulary_size: Number of tokens, V.
        jump: How the sampler steps; None for Tweedie's formula.
    """

    def __init__(self, network: nn.Module, vocabulary_size: int, jump: Jump | None = None) -> None:
        # Masks need no floor of α: the terms that diverge at α = 0 cancel.
        super().__init__(network, vocabulary_size, absorbing(vocabulary_size), Linear(), jump)

    @classmethod
    def from_frame(cls, frame: Frame) -> "SeddAbsorbing":
        """Return the untrained method with a network conditioned on the time."""
        return cls(masked_network(frame, timed=True), frame.vocabulary_size)

    def log_ratios(
        self, noisy: Int[Tensor, "batch length"], time: Float[Tensor, " batch"]
    ) -> Float[Tensor, "batch length vocabulary"]:
        """Return `log s` for every token at every place, the dependence on the time exact."""
        alpha = self.schedule.alpha(time)[:, None, None]
        scale = (alpha / (1 - alpha).clamp(min=1e-12) / self.vocabulary_size).log()
        return super().log_ratios(noisy, time) + scale
