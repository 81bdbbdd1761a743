"""The methods of the paper's Table 1 in one frame, one file each; `METHODS` names them all."""

from dataclasses import replace

from stochloc.core import Diffusion, Lomax
from stochloc.methods.any_order import AnyOrder
from stochloc.methods.argmax_flow import ArgmaxFlow
from stochloc.methods.autoregressive import Autoregressive
from stochloc.methods.d3pm import D3pm
from stochloc.methods.discrete_flow import DiscreteFlow
from stochloc.methods.generalized_md4 import GeneralizedMd4
from stochloc.methods.latent_flow import LatentFlow
from stochloc.methods.leave_one_out import LeaveOneOutMdlm, TwoSidedMdlm
from stochloc.methods.localization import Variant
from stochloc.methods.mac import Mac
from stochloc.methods.md4 import Md4
from stochloc.methods.mdlm import Mdlm, UnweightedMdlm
from stochloc.methods.method import Drawn, Entry, Frame, Method
from stochloc.methods.multinomial import MultinomialDiffusion
from stochloc.methods.plaid import Plaid
from stochloc.methods.resized import DepthOfSameSize, Resized, left_half
from stochloc.methods.sedd import Sedd, SeddAbsorbing
from stochloc.nn import MOSTLY_LEFT
from stochloc.training.choices import OURS, PAPER, SEEING, SHOWN, SIDED
from stochloc.training.snr import (
    Endpoints,
    IndependentSides,
    Masks,
    SentenceLogNormal,
    TokenLogNormal,
)

METHODS: dict[str, Entry] = {
    "ar": Entry(Autoregressive.from_frame),
    "ardm": Entry(AnyOrder.from_frame),
    "mac": Entry(Mac.from_frame, revision=2),
    "mdlm": Entry(Mdlm.from_frame, revision=2),
    "md4": Entry(Md4.from_frame, revision=2),
    "md4-cosine": Entry(Md4.cosine, revision=2),
    "genmd4": Entry(GeneralizedMd4.from_frame, revision=2),
    "d3pm-absorbing": Entry(D3pm.absorbing, revision=2),
    "sedd-absorbing": Entry(SeddAbsorbing.from_frame, revision=2),
    "d3pm-uniform": Entry(D3pm.uniform, revision=2),
    "multinomial": Entry(MultinomialDiffusion.from_frame, revision=2),
    "sedd-uniform": Entry(Sedd.uniform, revision=2),
    "plaid": Entry(Plaid.from_frame, revision=2),
    "discrete-flow": Entry(DiscreteFlow.from_frame),
    "argmax-flow": Entry(ArgmaxFlow.from_frame, revision=2),
    "latent-flow": Entry(LatentFlow.from_frame, revision=2),
    "dsl-paper": Entry(Variant(PAPER, Diffusion(Lomax())).from_frame),
    "dsl": Entry(Variant(OURS).from_frame, revision=4),
}

TABLE_1 = tuple(METHODS)
SHARED_SNR = Endpoints(SentenceLogNormal(TokenLogNormal.mean, TokenLogNormal.sigma))
OURS_IN_FRAME, AR = Variant(OURS).from_frame, Autoregressive.from_frame
# Controls: the autoregressive model of as many parameters as ours, and of as many blocks as our
# left stack; masked diffusion on our network. Ablations: ours without one of its choices; with a
# network that looks at the token itself, and that one without one of its choices; masked diffusion
# with our loss weight, our prior or both.
METHODS |= {
    "ar-same-size": Entry(Resized(AR, DepthOfSameSize(AR, OURS_IN_FRAME)).from_frame),
    "ar-left": Entry(Resized(AR, left_half).from_frame),
    "mdlm-two-sided": Entry(LeaveOneOutMdlm.from_frame),
    "mdlm-two-sided-masked-loss": Entry(TwoSidedMdlm.from_frame),
    "dsl-no-left-to-right": Entry(Variant(replace(OURS, law=SHOWN)).from_frame),
    "dsl-independent-sides": Entry(Variant(replace(OURS, law=IndependentSides(SHOWN))).from_frame),
    "dsl-mostly-left": Entry(
        Variant(replace(OURS, architecture=MOSTLY_LEFT)).from_frame, revision=2
    ),
    "dsl-two-sided-masks-only": Entry(
        Variant(replace(OURS, law=replace(SIDED, inside=Masks()))).from_frame, revision=3
    ),
    "mdlm-unweighted": Entry(UnweightedMdlm.from_frame, revision=2),
    "mdlm-prior": Entry(Mdlm.with_prior, revision=2),
    "mdlm-prior-unweighted": Entry(UnweightedMdlm.with_prior, revision=2),
    "genmd4-prior": Entry(GeneralizedMd4.with_prior, revision=2),
    "dsl-encoder": Entry(Variant(SEEING).from_frame),
    "dsl-learned-codes": Entry(
        Variant(replace(SEEING, code_dimension=PAPER.code_dimension)).from_frame
    ),
    "dsl-no-evidence": Entry(Variant(replace(SEEING, evidence=False)).from_frame),
    "dsl-no-prior": Entry(Variant(replace(SEEING, unigram=False)).from_frame),
    "dsl-paper-beta": Entry(Variant(replace(SEEING, beta=PAPER.beta)).from_frame),
    "dsl-shared-snr": Entry(Variant(replace(SEEING, law=SHARED_SNR)).from_frame),
    "dsl-no-endpoints": Entry(Variant(replace(SEEING, law=TokenLogNormal())).from_frame),
    "dsl-masks-only": Entry(Variant(replace(SEEING, law=Masks())).from_frame),
}

__all__ = ["METHODS", "TABLE_1", "Drawn", "Entry", "Frame", "Method"]
