"""Ways to solve puzzles with one denoiser, and what each puzzle took.

Every way sets cells to their most likely digit; they differ in which cells are set when, and in
whether a cell can be taken back. A puzzle costs a call for every step until its grid obeys the
rules, or until the way gives up.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from board import Board
from rules import UNITS, is_solved
from torch import Tensor

from stochloc.core import (
    AllDifferent,
    Ancestral,
    Autoregressive,
    Backtrack,
    Codebook,
    Denoiser,
    DensePosterior,
    Follow,
    Masked,
    Policy,
    Posterior,
    Randomness,
    Reveal,
    RevealAbove,
    State,
    localize,
    start,
)


@dataclass(frozen=True)
class Outcome:
    """What became of puzzles.

    Attributes:
        solved: Which grids obey the rules and keep their givens, `(B,)`.
        calls: Denoiser calls each puzzle took, solved or not, `(B,)`.
        grids: The last grid of each, digits from 1 to 9, 0 where it is blank, `(B, 81)`.
    """

    solved: np.ndarray
    calls: np.ndarray
    grids: np.ndarray


class MostLikely(Ancestral):
    """Decides tokens by their most likely value, not by a draw."""

    def step(
        self, state: State, posterior: Posterior, dsnr: Tensor, generator: Randomness
    ) -> State:
        """Reveal the mode where `dγ = ∞`; no other steps are taken here."""
        return state.reveal(posterior.mode, dsnr.isinf() & ~state.is_known)


@dataclass(frozen=True)
class Unfinished:
    """A denoiser that is asked about the sequences with unknown tokens alone.

    Attributes:
        denoiser: The denoiser; its answer about one sequence depends on no other.
    """

    denoiser: Denoiser

    @property
    def codebook(self) -> Codebook:
        """The codes of the wrapped denoiser."""
        return self.denoiser.codebook

    def __call__(self, state: State) -> Posterior:
        """Return the posterior; of finished sequences there is nothing to ask."""
        rows = (~state.is_known).any(-1)
        size = self.codebook.vocabulary_size
        logits = torch.zeros(*state.known.shape, size, dtype=state.z.dtype)
        asked = self.denoiser(State(state.z[rows], state.known[rows], state.snr[rows]))
        logits[rows] = asked.log_probs_of(0, size)
        return DensePosterior.from_logits(logits, state.known, self.codebook)


def ways(board: Board) -> dict[str, Callable[[int], Policy]]:
    """Return the policy of every way, given the most calls it may make."""
    rule = AllDifferent(UNITS.tolist(), num_values=max(board.digits) + 1)
    return {
        "left to right": lambda _: Follow(Autoregressive()),
        "random order": lambda _: Follow(Masked()),
        "surest first, one cell a call": lambda _: Reveal(),
        "surest first, all above 0.99": lambda _: RevealAbove(0.99),
        "backtracking": lambda _: Backtrack(rule, 0.99),
    }


@torch.no_grad()
def solve(
    denoiser: Denoiser, board: Board, puzzles: np.ndarray, policy: Policy, calls: int, seed: int
) -> Outcome:
    """Solve a batch of puzzles.

    Args:
        denoiser: The model.
        board: How grids are written as its tokens.
        puzzles: Digits from 0 (blank) to 9, `(B, 81)`.
        policy: Which cells are set when.
        calls: Most calls for a puzzle, at least 1.
        seed: Of the order of the cells, where it is random.

    Returns:
        What became of each. A puzzle that is solved makes no more calls.
    """
    known = board.tokens_of(puzzles)
    state = start(denoiser.codebook, *known.shape, known=known)
    generator = torch.Generator().manual_seed(seed)
    spent = np.zeros(len(puzzles), dtype=np.int64)
    # What a policy leaves unknown after its steps is decided by one more call.
    walk = localize(Unfinished(denoiser), state, policy, MostLikely(), max(1, calls - 1), generator)
    for step in walk:
        spent += (~step.before.is_known).any(-1).numpy()
        state = step.state
        if is_solved(board.grids_of(state.known), puzzles).all() or spent.max() >= calls:
            break
    grids = board.grids_of(state.known)
    return Outcome(is_solved(grids, puzzles), spent, grids)
