"""D3PM: discrete diffusion in T steps (Austin et al. 2021, Structured denoising diffusion models).

    -log P(x) <= Σ_k E D( q(x_{k-1}|x_k, x_0) ‖ p_θ(x_{k-1}|x_k) ) + D( q(x_T|x_0) ‖ π )

The network predicts the distribution p̃ of `x_0`; Bayes' rule with the kernel turns it into `p_θ`
(their eq. 4), also in the step to `x_0`, where the divergence is `-log p_θ(x_0|x_1)`. With the
absorbing kernel, α = 1 - k/T (their 1/(T-k+1) schedule); with the uniform one, α is the cosine of
their code (google-research, `d3pm/text/diffusion.py`). Both networks are conditioned on the step
(`d3pm/text/configs.py`: `use_timestep_embeddings = True`). With masks, training adds their
auxiliary loss to the divergence of the one step that is drawn, as their code does (λ = 0.01; 0 for
text with uniform noise): the cross-entropy of p̃ over masked tokens, because carry-over makes the
others certain; theirs is over all tokens. Our choices: steps are stratified over the batch, theirs
are drawn independently; a step of theirs keeps a token with probability at least 0.001, ours has no
such floor.

With the true p̃ the bound still exceeds `-log P`, by O(1/T), because tokens that change in the same
step are drawn independently.
"""

from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from stochloc.core.numerics import draw_categorical, in_double
from stochloc.methods.kernel_diffusion import KernelDiffusion
from stochloc.methods.kernels import Kernel, absorbing, divergence, uniform
from stochloc.methods.masked import masked_network
from stochloc.methods.method import Drawn, Frame
from stochloc.methods.schedules import Linear, Schedule, ShiftedCosine
from stochloc.nn import token_network

NUM_STEPS = 1000
AUXILIARY_WEIGHT = 0.01


class D3pm(KernelDiffusion):
    """Discrete diffusion with a kernel, in T steps.

    Args:
        network: Returns logits of the V tokens, `(B, L, V)`, given states and time.
        vocabulary_size: Number of tokens, V.
        kernel: How tokens are replaced by noise.
        schedule: Gives α.
        num_diffusion_steps: T.
        auxiliary_weight: Weight λ of the cross-entropy of p̃ beside one step's divergence.
    """

    held = 26.4

    def __init__(
        self,
        network: nn.Module,
        vocabulary_size: int,
        kernel: Kernel,
        schedule: Schedule,
        num_diffusion_steps: int = NUM_STEPS,
        auxiliary_weight: float = 0.0,
    ) -> None:
        super().__init__(network, vocabulary_size, kernel, schedule)
        self.num_diffusion_steps, self.auxiliary_weight = num_diffusion_steps, auxiliary_weight

    @classmethod
    def absorbing(cls, frame: Frame) -> "D3pm":
        """Return the untrained method with the absorbing kernel."""
        size, network = frame.vocabulary_size, masked_network(frame, timed=True)
        return cls(network, size, absorbing(size), Linear(), auxiliary_weight=AUXILIARY_WEIGHT)

    @classmethod
    def uniform(cls, frame: Frame) -> "D3pm":
        """Return the untrained method with the uniform kernel."""
        size = frame.vocabulary_size
        network = token_network(size, size, frame.backbone, timed=True)
        return cls(network, size, uniform(size), ShiftedCosine())

    def loss(
        self, tokens: Int[Tensor, "batch length"], generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Return T times one step's divergence plus the weighted auxiliary loss; one call."""
        step = self._step_at(self.training_times(tokens, generator))
        nats, auxiliary = self.step_nats(tokens, step, generator)
        nats = nats + self.auxiliary_weight * auxiliary
        return (self.num_diffusion_steps * nats + self.fixed_nats(tokens)).mean()

    def token_nats(
        self,
        tokens: Int[Tensor, "batch length"],
        time: Float[Tensor, " batch"],
        generator: torch.Generator,
    ) -> Float[Tensor, "batch length"]:
        """Return T times the divergence of the step that contains the time."""
        nats, _ = self.step_nats(tokens, self._step_at(time), generator)
        return self.num_diffusion_steps * nats

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
            Both in nats for every token; the second is 0 where carry-over makes p̃ certain.
        """
        alpha_s, alpha_t = self._alpha(step - 1), self._alpha(step)
        noisy = self.kernel.noisy(tokens, alpha_t[..., 0], generator)
        log_probs = self._log_probs(noisy, step)
        model = self.kernel.backward_probs(noisy, log_probs.exp(), alpha_s, alpha_t)
        true = self.kernel.backward_probs(noisy, self.kernel.one_hot(tokens), alpha_s, alpha_t)
        is_certain = (noisy == tokens) & (self.kernel.stationary.to(log_probs)[tokens] == 0)
        auxiliary = -log_probs.gather(-1, tokens[..., None])[..., 0]
        return divergence(true, model), auxiliary.masked_fill(is_certain, 0.0)

    @torch.no_grad()
    def sample(
        self, num_sequences: int, length: int, num_steps: int, generator: torch.Generator
    ) -> Drawn:
        """Run the reverse process on N evenly spaced steps of the T; min(N, T) calls."""
        num_steps = min(num_steps, self.num_diffusion_steps)
        visited = torch.linspace(self.num_diffusion_steps, 0, num_steps + 1).round().long()
        visited = visited.to(generator.device)[:, None].expand(-1, num_sequences)
        noisy = self.kernel.draw_stationary((num_sequences, length), generator)
        for later, earlier in pairwise(visited):
            start = self._log_probs(noisy, later).exp()
            alpha_s, alpha_t = self._alpha(earlier), self._alpha(later)
            noisy = draw_categorical(
                self.kernel.backward_probs(noisy, start, alpha_s, alpha_t), generator
            )
        return Drawn(noisy, num_steps)

    def _log_probs(
        self, noisy: Int[Tensor, "batch length"], step: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch length states"]:
        # x_0 is a token, so the state of the mask has probability 0.
        log_probs = in_double(self.network(noisy, step / self.num_diffusion_steps)).log_softmax(-1)
        extra = self.kernel.num_states - self.vocabulary_size
        return F.pad(log_probs, (0, extra), value=-torch.inf)

    def _alpha(self, step: Int[Tensor, " batch"]) -> Float[Tensor, "batch 1 1"]:
        return self.schedule.alpha(step.double() / self.num_diffusion_steps)[:, None, None]

    def _step_at(self, time: Float[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        return (time * self.num_diffusion_steps).long().clamp(max=self.num_diffusion_steps - 1) + 1
