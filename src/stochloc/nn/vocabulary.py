"""The work that grows with the vocabulary: the converter before the network, the readout after it.

Read as attention, a token's evidence `z Eᵀ` scores the vocabulary's codes as keys. The *converter*
(paper eq. 6) attends to them and returns the mean of learned embeddings. The *readout* adds the
prediction from the context,

    log Q(x_i|z) = z_i·x_i + log prior + head · hidden_i + const,

and serves the loss as well as walks. It holds what the scores are computed from, not the scores.
For a small vocabulary they are computed at once. For a larger one the converter and the loss take a
few places at a time (`nn.chunks`), known tokens are looked up, and a posterior is asked block by
block of the vocabulary, with the same results.

For independent tokens the exact posterior is `softmax(z Eᵀ + log p_unigram)` (paper A.1), so with
`β = 1` and the unigram prior the converter gives the network the best guess from the token's own
evidence: the average token at `γ = 0`, a soft mask, and an ordinary embedding at `γ = ∞`.

Where products are taken in half precision (`torch.autocast`, or weights of that type), those with
learned matrices are: the converter's with W and the head's. Evidence grows with γ and is exact, so
it, the scores, the logits and what is computed from them stay in the type of `z`.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from stochloc.core import UNKNOWN, BlockedPosterior, Codebook, DensePosterior, Posterior
from stochloc.core.denoisers.blocked import BLOCK_SIZE
from stochloc.nn.chunks import in_chunks

# What torch's cross-entropy takes for a target that does not count.
IGNORED = -100
# Scores of at most so many tokens are held for every place of a batch while a model is trained.
SMALL = 1024


def convert(
    z: Float[Tensor, "batch length dim"],
    known: Int[Tensor, "batch length"],
    codebook: Codebook,
    embeddings: Float[Tensor, "slots width"],
    beta: Float[Tensor, ""],
    log_prior: Float[Tensor, " vocabulary"],
    slot: Float[Tensor, " 1"] | None,
) -> Float[Tensor, "batch length width"]:
    """Return the embedding of every noisy token, `softmax(β z Eᵀ + log prior) W` (paper eq. 6).

    Args:
        z: Noisy codes.
        known: The token where it is known, `-1` elsewhere; a known token gets its own row of W.
        codebook: The token codes E.
        embeddings: The rows of W, one for each token, and a last one for the mask slot if any.
        beta: Inverse temperature β.
        log_prior: Log-probabilities added to the scores; zeros for the paper's converter, `-∞` for
            a token that enters where it is known and nowhere else.
        slot: Score of the mask slot, which takes the weight where the evidence is weak.

    Returns:
        Embeddings of the width of W, not constrained to the sphere.
    """

    if codebook.vocabulary_size <= SMALL:
        scores = _scores(z, codebook, beta, log_prior, slot)
        return _mixture(_certain(scores, known), embeddings)
    free = known < 0
    learned = (embeddings, beta, log_prior, *([] if slot is None else [slot]))
    converted = in_chunks(
        lambda z: _mixture(_scores(z, codebook, beta, log_prior, slot), embeddings),
        [z[free]],
        [*learned, *codebook.parameters()],
        codebook.vocabulary_size,
    )
    return F.embedding(known.clamp(min=0), embeddings).index_put((free,), converted)


def _scores(
    z: Float[Tensor, "*places dim"],
    codebook: Codebook,
    beta: Float[Tensor, ""],
    log_prior: Float[Tensor, " vocabulary"],
    slot: Float[Tensor, " 1"] | None,
) -> Float[Tensor, "*places slots"]:
    with torch.autocast(z.device.type, enabled=False):
        evidence = codebook.evidence(z)
    scores = beta * evidence + log_prior
    return scores if slot is None else torch.cat([scores, _column(slot, scores)], -1)


def smoothed_log_unigram(counts: Int[Tensor, " vocabulary"]) -> Float[Tensor, " vocabulary"]:
    """Return logarithms of token frequencies, every token counted once more than it occurs.

    Args:
        counts: How often each token occurs.

    Returns:
        Log-probabilities, float64.
    """
    return (counts.double() + 1).log().log_softmax(0)


def _mixture(
    scores: Float[Tensor, "*places slots"], embeddings: Float[Tensor, "slots width"]
) -> Float[Tensor, "*places width"]:
    # The sum over the transformer's blocks starts here and stays in the type of the weights.
    return (scores.softmax(-1).to(embeddings.dtype) @ embeddings).to(embeddings.dtype)


def _column(
    slot: Float[Tensor, " 1"], scores: Float[Tensor, "*places vocabulary"]
) -> Float[Tensor, "*places 1"]:
    return slot.expand(*scores.shape[:-1], 1)


def _certain(
    scores: Float[Tensor, "batch length slots"], known: Int[Tensor, "batch length"]
) -> Float[Tensor, "batch length slots"]:
    is_token = known[..., None] == torch.arange(scores.shape[-1], device=known.device)
    certain = torch.zeros_like(scores).masked_fill(~is_token, -torch.inf)
    return torch.where(known[..., None] >= 0, certain, scores)


@dataclass(frozen=True, eq=False)
class Readout:
    """The prediction of every token of a batch: from the context, a prior and its own evidence.

    Attributes:
        hidden: The backbone's output, `(B, L, W)`.
        head: Output weights, `(V, W)`; their product with `hidden` is the context's part.
        log_prior: Log-probabilities added, `(V,)`; zeros for none, `-∞` for tokens ruled out.
        codebook: The token codes E.
        z: Noisy codes, `(B, L, d)`.
        known: The token where it is known, `-1` elsewhere.
        evidence: Whether to add `z Eᵀ`, which is exact: `P(x_i|z) ∝ exp(z_i·x_i) P(x_i|z_-i)`.
        block_size: Most tokens of the vocabulary that a posterior holds at once, at least 1.
    """

    hidden: Float[Tensor, "batch length width"]
    head: Float[Tensor, "vocabulary width"]
    log_prior: Float[Tensor, " vocabulary"]
    codebook: Codebook
    z: Float[Tensor, "batch length dim"]
    known: Int[Tensor, "batch length"]
    evidence: bool = True
    block_size: int = BLOCK_SIZE

    @property
    def logits(self) -> Float[Tensor, "batch length vocabulary"]:
        """Unnormalised log-probabilities of the whole vocabulary, in the type of `z`."""
        return self.scores(0, self.codebook.vocabulary_size)

    @property
    def posterior(self) -> Posterior:
        """The posterior of every token, certain where it is known; dense if one block holds it."""
        if self.codebook.vocabulary_size <= self.block_size:
            return DensePosterior.from_logits(self.logits, self.known, self.codebook)
        return BlockedPosterior.from_scores(self.scores, self.known, self.codebook, self.block_size)

    def scores(self, start: int, stop: int) -> Float[Tensor, "batch length block"]:
        """Return unnormalised log-probabilities of the tokens `start ≤ v < stop`.

        Args:
            start: The first token of the block.
            stop: The first token after it, at most V.

        Returns:
            Nats, in the type of `z`; known tokens count as any other.
        """
        head = self.head[start:stop].to(self.hidden.dtype)
        context = F.linear(self.hidden, head).to(self.z.dtype) + self.log_prior[start:stop]
        if not self.evidence:
            return context
        with torch.autocast(self.z.device.type, enabled=False):
            return context + self.codebook.evidence_for(self.z, start, stop)

    def token_nats(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length"]:
        """Return the cross-entropy `-log Q(x_i|z)` of every token.

        Args:
            tokens: The true tokens, `-1` where there is no target.

        Returns:
            Nats; 0 where the token is known, and where there is no target.
        """
        targets = tokens.masked_fill((self.known >= 0) | (tokens < 0), IGNORED)
        if self.codebook.vocabulary_size <= SMALL:
            return F.cross_entropy(self.logits.transpose(1, 2), targets, reduction="none")
        asked = targets >= 0
        nats = in_chunks(
            self._nats_of,
            [self.hidden[asked], self.z[asked], tokens[asked]],
            [self.head, self.log_prior, *self.codebook.parameters()],
            self.codebook.vocabulary_size,
        )
        return nats.new_zeros(tokens.shape).index_put((asked,), nats)

    def without_evidence(self) -> "Readout":
        """Return the prediction from context and prior alone, of known tokens too.

        Returns:
            The readout of `Q(x_i|z_-i)`, where `hidden` at a place does not depend on `z` there.
        """
        return replace(self, known=torch.full_like(self.known, UNKNOWN), evidence=False)

    def _nats_of(
        self,
        hidden: Float[Tensor, "places width"],
        z: Float[Tensor, "places dim"],
        tokens: Int[Tensor, " places"],
    ) -> Float[Tensor, " places"]:
        """Return the cross-entropy of some places, none of which is known."""
        part = replace(
            self, hidden=hidden[None], z=z[None], known=torch.full_like(tokens, UNKNOWN)[None]
        )
        return F.cross_entropy(part.logits[0], tokens, reduction="none")
