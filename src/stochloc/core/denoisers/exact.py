"""The exact denoiser of an enumerable data set (paper C.1)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from stochloc.core.channel import State
from stochloc.core.codebook import Codebook
from stochloc.core.denoisers.dense import DensePosterior
from stochloc.core.numerics import draw_categorical
from stochloc.core.paths.base import real_type
from stochloc.core.streams import Randomness


class ExactDenoiser:
    """The true posterior of an enumerable data set, by a softmax over its sequences (paper C.1).

    Args:
        codebook: The token codes; the results have its floating type.
        sequences: All sequences of positive probability, `(M, L)`.
        log_prior: `log P` of each up to a constant, `(M,)`, nats; uniform when absent.

    Known tokens that fit no sequence, as a coarse walk may produce, are taken as the limit of ever
    larger SNR: the sequences that agree best with them remain.

    Cost: one call takes `O(B · M · L · (d + V))` operations and `O(L · M · V)` memory is held.
    """

    def __init__(
        self,
        codebook: Codebook,
        sequences: Int[Tensor, "sequences length"],
        log_prior: Float[Tensor, " sequences"] | None = None,
    ) -> None:
        if sequences.numel() == 0:
            raise ValueError("An exact denoiser needs at least one sequence of one token.")
        prior = torch.zeros(len(sequences)) if log_prior is None else log_prior
        self.codebook = codebook
        self.sequences = sequences.to(codebook.one.device)
        self.log_prior = prior.to(codebook.one).log_softmax(0)
        self._codes = codebook.encode(self.sequences)
        self._one_hot = F.one_hot(self.sequences, codebook.vocabulary_size).to(codebook.one)

    def given(self, labels: Int[Tensor, " sequences"], label: int) -> "ExactDenoiser":
        """Return the exact denoiser of `P(x|y)`: the sequences that carry one label (paper A.1).

        Args:
            labels: The label y of every sequence of this data set.
            label: The one to condition on.

        Returns:
            A denoiser of the sequences with that label.

        Raises:
            ValueError: No sequence carries the label.
        """
        chosen = labels == label
        if not bool(chosen.any()):
            raise ValueError(f"No sequence of the data set carries the label {label}.")
        return ExactDenoiser(self.codebook, self.sequences[chosen], self.log_prior[chosen])

    def sequence_log_posterior(self, state: State) -> Float[Tensor, "batch sequences"]:
        """Return `log P(x|z)` of every sequence of the data set.

        Args:
            state: Noisy codes and known tokens, as many as a sequence of the data set has.

        Returns:
            Nats, normalised over the sequences.

        Raises:
            ValueError: The state has another number of tokens.
        """
        self._check_length(state)
        known_codes, codes = self._known_codes(state).flatten(1), self._codes.flatten(1)
        agreement = known_codes @ codes.to(known_codes).T
        return self._agreeing(state.z.flatten(1) @ codes.T, agreement)

    def __call__(self, state: State) -> DensePosterior:
        """Return the marginal posterior of every token; exact."""
        probs = self.sequence_log_posterior(state).exp() @ self._one_hot.flatten(1)
        shape = (*state.known.shape, self.codebook.vocabulary_size)
        return DensePosterior.from_logits(probs.view(shape).log(), state.known, self.codebook)

    def between(self, left: State, right: State) -> DensePosterior:
        """Return `P(x_i | left_<i, right_>i)` of every token; exact, in one call.

        Args:
            left: Read at the places before each token.
            right: Read at the places after it.

        Returns:
            The marginal posteriors, none of which knows anything of its own place. Known tokens
            that fit no sequence are taken as in the class's own answer. Needs `O(B · L · M)`
            memory.

        Raises:
            ValueError: A state has another number of tokens than the sequences of the data set.
        """
        for state in (left, right):
            self._check_length(state)
        evidence = self._beside(left.z, right.z)
        agreement = self._beside(self._known_codes(left), self._known_codes(right))
        probs = torch.einsum(
            "blm,mlv->blv", self._agreeing(evidence, agreement).exp(), self._one_hot
        )
        return DensePosterior(probs.log().log_softmax(-1), self.codebook)

    def log_prob(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, " batch"]:
        """Return the exact `log P` of whole sequences.

        Args:
            tokens: Token indices, `(B, L)`.

        Returns:
            Nats; `-∞` for sequences outside the data set.
        """
        matches = (tokens[:, None] == self.sequences).all(-1)
        return self.log_prior.expand_as(matches).masked_fill(~matches, -torch.inf).logsumexp(-1)

    def sample(self, num: int, generator: Randomness) -> Int[Tensor, "num length"]:
        """Draw whole sequences from the exact distribution.

        Args:
            num: How many.
            generator: Source of randomness.

        Returns:
            Token indices.
        """
        rows = draw_categorical(self.log_prior.exp().expand(num, -1), generator)
        return self.sequences[rows.to(self.sequences.device)]

    def _check_length(self, state: State) -> None:
        length, needed = state.known.shape[-1], self.sequences.shape[-1]
        if length != needed:
            raise ValueError(f"The data set has sequences of {needed} tokens, not of {length}.")

    def _known_codes(self, state: State) -> Float[Tensor, "batch length dim"]:
        # Equal sequences must agree equally: in float32 the order of a long sum decides its end.
        codes = self.codebook.encode(state.known.clamp(min=0)).to(real_type(state.is_known))
        return codes * state.is_known[..., None]

    def _beside(
        self, left: Float[Tensor, "batch length dim"], right: Float[Tensor, "batch length dim"]
    ) -> Float[Tensor, "batch length sequences"]:
        """Return `Σ_(j<i) left_j·x_j + Σ_(j>i) right_j·x_j` for every place i and sequence x."""
        before, after = (torch.einsum("bld,mld->blm", v, self._codes.to(v)) for v in (left, right))
        before = F.pad(before[:, :-1], (0, 0, 1, 0)).cumsum(1)
        return before + F.pad(after[:, 1:], (0, 0, 0, 1)).flip(1).cumsum(1).flip(1)

    def _agreeing(
        self,
        evidence: Float[Tensor, "*batch sequences"],
        agreement: Float[Tensor, "*batch sequences"],
    ) -> Float[Tensor, "*batch sequences"]:
        """Return the log-posterior of the sequences that agree best with the known tokens."""
        best = agreement.amax(-1, keepdim=True)
        # Neighbours on a circle of 1,000 tokens agree to 2e-5, so only rounding may be forgiven.
        eps = torch.finfo(self._codes.dtype).eps
        rounding = min(1e-4, 64 * eps * self.sequences.shape[-1])
        log_joint = (self.log_prior + evidence).masked_fill(agreement < best - rounding, -torch.inf)
        return log_joint.log_softmax(-1)
