"""Oracle networks: the exact output of each method's network on the small data set."""

import math
from collections.abc import Callable

import torch
from methods.worlds import LENGTH, VOCABULARY, every_sequence, true_log_probs
from torch import Tensor

from stochloc.methods.kernels import Kernel
from stochloc.methods.schedules import Schedule

MASK = VOCABULARY
Seen = Callable[[Tensor, Tensor], Tensor]


def marginals(log_likelihood: Tensor, cavity: bool = False) -> Tensor:
    """`log P(x_i = v | evidence)` from `log p(evidence_j | x_j)`, `(B, L, V)`.

    With `cavity`, token i's own evidence is left out. Thousands of rows often share a few kinds of
    evidence, each of which is enumerated once.
    """
    log_likelihood, place = log_likelihood.unique(dim=0, return_inverse=True)
    sequences = every_sequence()
    one_hot = torch.nn.functional.one_hot(sequences, VOCABULARY).double()
    finite = log_likelihood.clamp(min=-1e4)
    each = torch.einsum("blv,mlv->bml", finite, one_hot)
    joint = true_log_probs() + each.sum(-1)
    answers = []
    for i in range(LENGTH):
        own = joint - each[..., i] if cavity else joint
        fits = torch.where(one_hot[:, i].bool(), own[..., None], -torch.inf)
        answers.append(fits.logsumexp(1))
    return torch.stack(answers, 1).log_softmax(-1)[place]


def seen_or_masked(tokens: Tensor) -> Tensor:
    """`log p(evidence | x)` of a token that is either shown or masked."""
    shown = torch.nn.functional.one_hot(tokens, VOCABULARY + 1)[..., :VOCABULARY].double().log()
    return torch.where((tokens == MASK)[..., None], 0.0, shown)


class MaskOracle(torch.nn.Module):
    """The distribution of masked tokens given the others, times `exp(plus)`."""

    def __init__(self, plus: float = 0.0) -> None:
        super().__init__()
        self.plus = plus

    def forward(self, tokens: Tensor, time: Tensor | None = None) -> Tensor:
        return marginals(seen_or_masked(tokens)).clamp(min=-1e3) + self.plus


class SidesOracle(torch.nn.Module):
    """The distribution of each token given those on its two sides, itself left out."""

    def forward(self, tokens: Tensor, time: Tensor | None = None) -> Tensor:
        return self.between(tokens, tokens)

    def between(self, left: Tensor, right: Tensor) -> Tensor:
        answers = []
        for i in range(LENGTH):
            own = torch.full_like(left[:, :1], MASK)
            shown = torch.cat([left[:, :i], own, right[:, i + 1 :]], 1)
            answers.append(marginals(seen_or_masked(shown))[:, i])
        return torch.stack(answers, 1).clamp(min=-1e3)


class Remembering(torch.nn.Module):
    """A causal network whose cache is its whole input, which it reads again at every place."""

    def extend(self, inputs: Tensor, past: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        past = [*past, inputs]
        return self(torch.cat(past, 1))[:, -1:], past


class NextTokenOracle(Remembering):
    """The distribution of the token after each place, for text that starts with the token V."""

    def forward(self, tokens: Tensor) -> Tensor:
        answers = []
        for i in range(tokens.shape[1]):
            shown = torch.full((len(tokens), LENGTH), MASK)
            shown[:, :i] = tokens[:, 1 : i + 1]
            answers.append(marginals(seen_or_masked(shown))[:, i])
        return torch.stack(answers, 1)


class WeightedMaskOracle(torch.nn.Module):
    """The distribution of masked tokens when token v is masked with probability `t ** w_v`."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = weights

    def forward(self, tokens: Tensor, time: Tensor) -> Tensor:
        hidden = self.weights.double() * time.double().log()[:, None, None]
        evidence = torch.where((tokens == MASK)[..., None], hidden, seen_or_masked(tokens))
        return marginals(evidence).clamp(min=-1e3)


class CavityOracle(torch.nn.Module):
    """The distribution of each token given all noisy tokens except its own."""

    def __init__(self, kernel: Kernel, schedule: Schedule) -> None:
        super().__init__()
        self.kernel, self.schedule = kernel, schedule

    def forward(self, noisy: Tensor, time: Tensor) -> Tensor:
        return marginals(evidence(self.kernel, self.schedule, noisy, time), cavity=True)


class RatioOracle(CavityOracle):
    """`log p_t(x_t with y at place i) / p_t(x_t)`."""

    def forward(self, noisy: Tensor, time: Tensor) -> Tensor:
        alpha = self.schedule.alpha(time.double())[:, None, None]
        cavity = super().forward(noisy, time).exp()
        probs = self.kernel.forward_probs(cavity, alpha)
        return (probs / probs.gather(-1, noisy[..., None])).log()


def evidence(kernel: Kernel, schedule: Schedule, noisy: Tensor, time: Tensor) -> Tensor:
    """`log q(x_t | x_0 = v)`."""
    alpha = schedule.alpha(time.double())[:, None, None]
    vocabulary = torch.eye(kernel.num_states, dtype=torch.float64)[:VOCABULARY]
    probs = alpha[..., None] * vocabulary + (1 - alpha[..., None]) * kernel.stationary
    observed = noisy[:, :, None, None].expand(-1, -1, VOCABULARY, 1)
    return probs.expand(len(noisy), LENGTH, -1, -1).gather(-1, observed)[..., 0].log()


LOG_VOCABULARY = math.log(VOCABULARY)
