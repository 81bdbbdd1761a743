"""The names that commands, runs and reports use: one table, without their meanings.

What a name stands for is in the table of the module that creates it: `tasks.paths` for paths and
transitions, `tasks.policies` for policies and correctors, `data.tokenizers.named` for tokenizers,
`viz.figures` for figures.
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
PolicyName = Literal[
    "path",
    "confidence",
    "confidence-apart",
    "entropy",
    "threshold",
    "share",
    "share-entropy",
    "curvature",
    "curvature-difference",
    "tolerance",
    "remdm-cap",
    "remdm-rescale",
    "remdm-conf",
    "remdm-loop",
]
CorrectorName = Literal["exact", "together", "least-confident"]
TokenizerName = Literal["characters", "bytes", "text8"]
CheckpointName = Literal["best", "last"]
FigureName = Literal["paths", "cyclic", "training", "error", "steps", "calibration", "walk", "all"]
