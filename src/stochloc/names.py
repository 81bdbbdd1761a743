"""The names that commands, runs and reports use: one table, without their meanings.

What a name stands for is in the table of the module that creates it: `tasks.paths` for paths and
transitions, `tasks.policies` for policies and correctors, `core.policies.certainties` for measures
of certainty, `nn.backbones` for architectures, `data.tokenizers.named` for tokenizers,
`viz.figures` for figures. Those tables need torch or numpy, which help pages do without;
`tests/tasks/test_names.py` says what is missing here.
Imports nothing, so that help pages and tasks can read the same names.
"""

from typing import Literal

PathName = Literal[
    "masked",
    "spread",
    "diffusion",
    "autoregressive",
    "block",
    "rolling",
    "hybrid",
    "tuned",
]
TransitionName = Literal["ancestral", "euler"]
CERTAINTIES = ("confidence", "entropy")


def policies_of(certainty: str) -> tuple[str, str, str, str]:
    """Return the names of the policies that use a measure of certainty.

    Args:
        certainty: One of `CERTAINTIES`.

    Returns:
        Names for deciding equal numbers of tokens, only tokens far apart, all above a threshold,
        and for sharing SNR. The last two name no measure where it is the first, their default.
    """
    suffix = "" if certainty == CERTAINTIES[0] else f"-{certainty}"
    return certainty, f"{certainty}-apart", f"threshold{suffix}", f"share{suffix}"


POLICIES = (
    "path",
    *(name for certainty in CERTAINTIES for name in policies_of(certainty)),
    "curvature",
    "curvature-difference",
    "tolerance",
    "remdm-cap",
    "remdm-rescale",
    "remdm-conf",
    "remdm-loop",
)
CorrectorName = Literal["exact", "together", "least-confident"]
ArchitectureName = Literal["encoder", "two-sided", "dit"]
TokenizerName = Literal["characters", "bytes", "text8", "words"]
# How other tokenizers are named: by a number of tokens, a file, or a repository on the hub.
TOKENIZER_FORMS = ("bpe:N", "FILE.json", "hub:NAME")
LawName = Literal["sentence", "token", "endpoints", "masks", "left-to-right", "independent-sides"]
CheckpointName = Literal["best", "last"]
FigureName = Literal["paths", "cyclic", "training", "error", "steps", "calibration", "walk", "all"]
