"""Networks that know the small world: the exact answer to what each method's network is asked."""

import math
from collections.abc import Callable

import torch
from methods.worlds import LENGTH, VOCABULARY, every_sequence, log_law
from torch import Tensor

from stochloc.methods.kernels import Kernel
from stochloc.methods.schedules import Schedule

MASK = VOCABULARY
Seen = Callable[[Tensor, Tensor], Tensor]


def marginals(log_likelihood: Tensor, cavity: bool = False) -> Tensor:
    """`log P(x_i = v | evidence)` from `log p(evidence_j | x_j)`, `(B, L, V)`.

    Without its own evidence where `cavity` is set.
    """
    sequences = every_sequence()
    one_hot = torch.nn.functional.one_hot(sequences, VOCABULARY).double()
    finite = log_likelihood.clamp(min=-1e4)
    each = torch.einsum("blv,mlv->bml", finite, one_hot)
    joint = log_law() + each.sum(-1)
    answers = []
    for i in range(LENGTH):
        own = joint - each[..., i] if cavity else joint
        fits = torch.where(one_hot[:, i].bool(), own[..., None], -torch.inf)
        answers.append(fits.logsumexp(1))
    return torch.stack(answers, 1).log_softmax(-1)


def seen_or_masked(tokens: Tensor) -> Tensor:
    """The evidence of a token that is shown or masked, whatever it is."""
    shown = torch.nn.functional.one_hot(tokens, VOCABULARY + 1)[..., :VOCABULARY].double().log()
    return torch.where((tokens == MASK)[..., None], 0.0, shown)


class MaskOracle(torch.nn.Module):
    """The law of masked tokens given the others; scaled to be the absorbing score's output."""

    def __init__(self, plus: float = 0.0) -> None:
        super().__init__()
        self.plus = plus

    def forward(self, tokens: Tensor, time: Tensor | None = None) -> Tensor:
        return marginals(seen_or_masked(tokens)).clamp(min=-1e3) + self.plus


class Remembering(torch.nn.Module):
    """A causal network that remembers what it was given, and reads all of it again."""

    def extend(self, inputs: Tensor, past: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        past = [*past, inputs]
        return self(torch.cat(past, 1))[:, -1:], past


class NextTokenOracle(Remembering):
    """The law of the token after each place, for text that begins with the token V."""

    def forward(self, tokens: Tensor) -> Tensor:
        answers = []
        for i in range(tokens.shape[1]):
            shown = torch.full((len(tokens), LENGTH), MASK)
            shown[:, :i] = tokens[:, 1 : i + 1]
            answers.append(marginals(seen_or_masked(shown))[:, i])
        return torch.stack(answers, 1)


class WeightedMaskOracle(torch.nn.Module):
    """The law of masked tokens when token v is masked with probability `t ** w_v`."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = weights

    def forward(self, tokens: Tensor, time: Tensor) -> Tensor:
        hidden = self.weights.double() * time.double().log()[:, None, None]
        evidence = torch.where((tokens == MASK)[..., None], hidden, seen_or_masked(tokens))
        return marginals(evidence).clamp(min=-1e3)


class CavityOracle(torch.nn.Module):
    """The law of each token given the noisy tokens but its own."""

    def __init__(self, kernel: Kernel, schedule: Schedule) -> None:
        super().__init__()
        self.kernel, self.schedule = kernel, schedule

    def forward(self, noisy: Tensor, time: Tensor) -> Tensor:
        return marginals(evidence(self.kernel, self.schedule, noisy, time), cavity=True)


class RatioOracle(CavityOracle):
    """The logarithms of `p_t(x_t with y in place i) / p_t(x_t)`."""

    def forward(self, noisy: Tensor, time: Tensor) -> Tensor:
        alpha = self.schedule.alpha(time.double())[:, None, None]
        cavity = super().forward(noisy, time).exp()
        law = self.kernel.forward_law(cavity, alpha)
        return (law / law.gather(-1, noisy[..., None])).log()


def evidence(kernel: Kernel, schedule: Schedule, noisy: Tensor, time: Tensor) -> Tensor:
    """`log q(x_t | x_0 = v)`."""
    alpha = schedule.alpha(time.double())[:, None, None]
    vocabulary = torch.eye(kernel.num_states, dtype=torch.float64)[:VOCABULARY]
    law = alpha[..., None] * vocabulary + (1 - alpha[..., None]) * kernel.stationary
    observed = noisy[:, :, None, None].expand(-1, -1, VOCABULARY, 1)
    return law.expand(len(noisy), LENGTH, -1, -1).gather(-1, observed)[..., 0].log()


LOG_VOCABULARY = math.log(VOCABULARY)
