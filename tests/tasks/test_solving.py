"""Constraint problems by the coordinates of places."""

from random import Random

import numpy as np
import pytest
import torch
from grids import random_grids
from puzzles import puzzle_from
from rules import UNITS, is_solved
from test_sudoku import SinglesOnly

from stochloc.core import UNKNOWN, Ancestral, Masked, Streams, start
from stochloc.nn import ModelConfig
from stochloc.tasks.solving import shared_coordinates, solving
from stochloc.tasks.walks import Walk

pytestmark = pytest.mark.bulk

SUDOKU = ModelConfig(10, given_tokens=1, positions="grid:9x9:3x3")


def test_the_units_of_a_sudoku_are_its_rows_columns_and_boxes():
    units = {tuple(unit) for unit in shared_coordinates(SUDOKU)}
    assert units == {tuple(unit) for unit in UNITS.tolist()}


def test_a_walk_that_solves_draws_only_the_solution_where_there_is_one():
    puzzles = np.stack([puzzle_from(g, 17, Random(k)) for k, g in enumerate(random_grids(4, 11))])
    known, denoiser = torch.from_numpy(puzzles).long() - 1, SinglesOnly()
    state = start(denoiser.codebook, *known.shape, known=known)
    assert (known == UNKNOWN).sum() > 200
    walk = solving(Walk(Masked(), Ancestral(), 300), SUDOKU)
    streams = Streams([torch.Generator().manual_seed(k) for k in range(4)], torch.device("cpu"))
    drawn = walk.draw(denoiser, state, streams)
    assert is_solved((drawn.tokens + 1).numpy(), puzzles).all()
    assert drawn.denoiser_calls <= 300


@pytest.mark.parametrize("positions", ["rotary", "learned:7"])
def test_without_places_that_share_a_coordinate_nothing_must_differ(positions):
    with pytest.raises(ValueError, match="--all-different"):
        solving(Walk(Masked(), Ancestral(), 3), ModelConfig(5, positions=positions))
