"""Which letters of a text does a model doubt? Its probability of each, given all others.

    python examples/doubtful_letters.py

A two-sided network never looks at the token it predicts, so one call gives the leave-one-out
probability of every letter. Where it is below one in a hundred, the letter is marked.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from fill_blanks import trained

from stochloc.core import leave_one_out, start
from stochloc.tasks.runs import Run

DOUBT = 0.01


def probabilities(run: Run, text: str) -> list[float]:
    """Return the probability of every letter of a text given all others; one denoiser call.

    Args:
        run: A two-sided model and its tokenizer.
        text: Letters that the model knows, no more than a window has.
    """
    tokens = torch.from_numpy(np.asarray(run.tokenizer.encode(text), dtype=np.int64))[None]
    denoiser = run.denoiser_for(tokens.shape[1])
    state = start(run.model.codebook, 1, tokens.shape[1], tokens)
    with torch.no_grad():
        posterior = leave_one_out(denoiser, state)
    assert posterior is not None, "the model looks at the token it predicts"
    return posterior.log_prob(tokens)[0].exp().tolist()


def main() -> None:
    """Train, and print a misspelt text with what is doubted marked."""
    with TemporaryDirectory() as folder:
        run = trained(Path(folder))
        for text in ("the king sees the river.", "the kimg sees teh river."):
            print(text)
            print("".join("^" if p < DOUBT else " " for p in probabilities(run, text)))


if __name__ == "__main__":
    main()
