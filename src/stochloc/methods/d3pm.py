"""D3PM: discrete diffusion in T steps (Austin et al. 2021, Structured denoising diffusion models).

    -log P(x) <= Σ_k E D( q(x_{k-1}|x_k, x_0) ‖ p_θ(x_{k-1}|x_k) ) + D( q(x_T|x_0) ‖ π )

The network predicts the law p̃ of `x_0` and Bayes' rule with the kernel makes `p_θ` of it (their
eq. 4), also in the step to `x_0`, where the divergence is `-log p_θ(x_0|x_1)`. With the absorbing
kernel, α = 1 - k/T (their 1/(T-k+1) schedule); with the uniform one, α is the cosine of their code
(google-research, `d3pm/text/diffusion.py`). Both networks are told the step
(`d3pm/text/configs.py`: `use_timestep_embeddings = True`). With masks, training adds their
auxiliary loss to the divergence of the one step that is drawn, as their code does (λ = 0.01, for
text with uniform noise 0): the cross-entropy of p̃ over masked tokens, because carry-over makes the
others certain; theirs is over all tokens. Choices: steps are drawn one from each of equal strata,
theirs independently; a step of theirs keeps a token with probability 0.001 at least, ours with what
the cosine says.

With the true p̃ the bound exceeds `-log P` by what is lost when tokens change in the same step as
if they were independent, O(1/T).
"""

from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from stochloc.core.numerics import draw_categorical, in_double
from stochloc.methods.kernels import Kernel, absorbing, divergence, uniform
from stochloc.methods.method import Drawn, Frame
from stochloc.methods.schedules import Linear, Schedule, ShiftedCosine, final_alpha
from stochloc.methods.time_integral import TimeIntegral, crowded
from stochloc.nn import token_network

NUM_STEPS = 1000
AUXILIARY_WEIGHT = 0.01


class D3pm(TimeIntegral):
    """Discrete diffusion with a kernel, in T steps.

    Args:
        network: Returns logits of the V tokens, `(B, L, V)`, given states and time.
        vocabulary_size: Number of tokens, V.
        kernel: How tokens are lost.
        schedule: Gives α.
        num_diffusion_steps: T.
        auxiliary_weight: Weight λ of the cross-entropy of p̃ beside one step's divergence.
    """

    def __init__(
        self,
        network: nn.Module,
        vocabulary_size: int,
        kernel: Kernel,
        schedule: Schedule,
        num_diffusion_steps: int = NUM_STEPS,
        auxiliary_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.network, self.vocabulary_size = network, vocabulary_size
        self.kernel, self.schedule = kernel, schedule
        self.num_diffusion_steps, self.auxiliary_weight = num_diffusion_steps, auxiliary_weight

    @classmethod
    def absorbing(cls, frame: Frame) -> "D3pm":
        """Return the method that masks, untrained.

        Args:
            frame: What all methods share.

        Returns:
            The method.
        """
        size = frame.vocabulary_size
        network = token_network(size + 1, size, frame.backbone, timed=True)
        return cls(network, size, absorbing(size), Linear(), auxiliary_weight=AUXILIARY_WEIGHT)

    @classmethod
    def uniform(cls, frame: Frame) -> "D3pm":
        """Return the method that replaces tokens by any token, untrained.

        Args:
            frame: What all methods share.

        Returns:
            The method.
        """
        size = frame.vocabulary_size
        network = token_network(size, size, frame.backbone, timed=True)
        return cls(network, size, uniform(size), ShiftedCosine())

    def loss(
        self, tokens: Int[Tensor, "batch length"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Return T times one step's divergence and the weighted auxiliary loss; one call."""
        step = self._step_at(self.training_times(tokens, generator))
        nats, auxiliary = self.step_nats(tokens, step, generator)
        nats = nats + self.auxiliary_weight * auxiliary
        return (self.num_diffusion_steps * nats + self.fixed_nats(tokens)).mean()

    def crowding(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, " batch"]:
        """Return ½: the first of T steps cost up to T times as much as the last."""
        return crowded(tokens)

    def token_nats(
        self,
        tokens: Int[Tensor, "batch length"],
        time: Float[Tensor, " batch"],
        generator: torch.Generator,
    ) -> Float[Tensor, "batch length"]:
        """Return T times the divergence of the step that a time falls in."""
        nats, _ = self.step_nats(tokens, self._step_at(time), generator)
        return self.num_diffusion_steps * nats

    def fixed_nats(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length"]:
        """Return the divergence of the last noisy tokens from π."""
        return self.kernel.prior_nats(tokens, final_alpha(self.schedule))

    def step_nats(
        self,
        tokens: Int[Tensor, "batch length"],
        step: Int[Tensor, " batch"],
        generator: torch.Generator,
    ) -> tuple[Float[Tensor, "batch length"], Float[Tensor, "batch length"]]:
        """Return the divergence of one step and the cross-entropy of p̃.

        Args:
            tokens: The true tokens.
            step: Number k of the step of every sequence, in `1 ... T`.
            generator: Source of the noise.

        Returns:
            Nats of every token, both; the second 0 where p̃ is certain by carry-over.
        """
        alpha_s, alpha_t = self._alpha(step - 1), self._alpha(step)
        noisy = self.kernel.noisy(tokens, alpha_t[..., 0], generator)
        log_law = self._log_law(noisy, step)
        model = self.kernel.backward_law(noisy, log_law.exp(), alpha_s, alpha_t)
        true = self.kernel.backward_law(noisy, self.kernel.one_hot(tokens), alpha_s, alpha_t)
        is_certain = (noisy == tokens) & (self.kernel.stationary.to(log_law)[tokens] == 0)
        auxiliary = -log_law.gather(-1, tokens[..., None])[..., 0]
        return divergence(true, model), auxiliary.masked_fill(is_certain, 0.0)

    @torch.no_grad()
    def sample(
        self, num_sequences: int, length: int, num_steps: int, generator: torch.Generator
    ) -> Drawn:
        """Go back in N of the T steps, evenly spaced; as many calls, at most T."""
        num_steps = min(num_steps, self.num_diffusion_steps)
        visited = torch.linspace(self.num_diffusion_steps, 0, num_steps + 1).round().long()
        visited = visited.to(generator.device)[:, None].expand(-1, num_sequences)
        noisy = self.kernel.draw_stationary((num_sequences, length), generator)
        for later, earlier in pairwise(visited):
            law = self._log_law(noisy, later).exp()
            probs = self.kernel.backward_law(noisy, law, self._alpha(earlier), self._alpha(later))
            noisy = draw_categorical(probs, generator)
        return Drawn(noisy, num_steps)

    def _log_law(
        self, noisy: Int[Tensor, "batch length"], step: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch length states"]:
        # States that are no tokens, the mask, cannot be what x_0 was.
        log_probs = in_double(self.network(noisy, step / self.num_diffusion_steps)).log_softmax(-1)
        extra = self.kernel.num_states - self.vocabulary_size
        return F.pad(log_probs, (0, extra), value=-torch.inf)

    def _alpha(self, step: Int[Tensor, " batch"]) -> Float[Tensor, "batch 1 1"]:
        return self.schedule.alpha(step.double() / self.num_diffusion_steps)[:, None, None]

    def _step_at(self, time: Float[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        return (time * self.num_diffusion_steps).long().clamp(max=self.num_diffusion_steps - 1) + 1
