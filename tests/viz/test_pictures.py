"""Pictures: what they measure, and that their files are whole."""

import math
from itertools import pairwise
from xml.etree import ElementTree

import pytest
import torch

pytest.importorskip("matplotlib")

from PIL import Image

from stochloc.core import Ancestral, CircleCodebook, ExactDenoiser, Follow, Masked
from stochloc.data import Cyclic
from stochloc.viz import files, paths, walk


def walked(seed):
    sequences, log_prior = Cyclic(5).enumerate(5)
    denoiser = ExactDenoiser(CircleCodebook(5), sequences, log_prior)
    generator = torch.Generator().manual_seed(seed)
    return walk.measure(denoiser, 5, Follow(Masked()), Ancestral(), 5, list("abcde"), generator)


def test_every_path_climbs_from_zero_to_infinity_and_never_falls():
    for knots in paths.measure(0).knots.values():
        assert knots[0] == (0, 0) and knots[-1] == (math.inf, math.inf)
        for before, after in pairwise(knots):
            assert after[0] >= before[0] and after[1] >= before[1]


def test_unmasking_in_as_many_steps_as_tokens_decides_one_a_step_and_ends_in_a_cycle():
    picture = walked(0)
    assert [row.count(math.inf) for row in picture.snr] == [1, 2, 3, 4, 5]
    first = "abcde".index(picture.text[0])
    assert "".join(picture.text) == "abcdeabcde"[first : first + 5]


@pytest.mark.parametrize("measure", [paths.measure, walked])
def test_files_are_whole_and_the_same_seed_gives_the_same_table(measure, tmp_path):
    png, svg, table = files.write(measure(3), tmp_path / "new", "figure")
    with Image.open(png) as image:
        assert image.mode == "RGBA" and len(image.getcolors(1 << 20) or []) > 2
    assert ElementTree.parse(svg).getroot().tag.endswith("svg")
    again = files.write(measure(3), tmp_path, "again")[2]
    assert table.read_bytes() == again.read_bytes()
    assert len(table.read_text().splitlines()) == len(measure(3).rows())


def test_a_folder_that_cannot_be_made_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="Cannot write figures into"):
        files.write(paths.measure(0), tmp_path / "file", "figure")
