"""Figures of a comparison: which methods are in focus, and that every name can be read."""

import math
from itertools import pairwise

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.text import Annotation, Text
from PIL import Image

from stochloc.cli import main
from stochloc.data import BitsPerToken
from stochloc.methods import METHODS, TABLE_1
from stochloc.tasks.compare.judge import JudgeScore
from stochloc.tasks.compare.table import Comparison, Row
from stochloc.viz.comparison import LearningPicture, SamplesPicture, pictures
from stochloc.viz.files import write
from stochloc.viz.focus import GROUPS, MOST, in_focus, parse_focus
from stochloc.viz.labels import spread
from stochloc.viz.style import FOCUS_COLOURS, GREY, GREY_TEXT, new_figure, styled

pytestmark = pytest.mark.bulk


def row(method, bits):
    """A method's row; all have one curve shape and, as in practice, nearly the same ends."""
    curve = [
        {"tokens": 1e6 * n, "seconds": 1.0, "bits_per_token": bits + 1 / n, "stderr": 0.02}
        for n in (1, 2, 3)
    ]
    samples = [
        {
            "steps": steps, "denoiser_calls": calls, "judged": bits + 1 / calls,
            "judged_stderr": 0.02, "entropy": bits, "entropy_stderr": 0.02,
            "seconds_per_sample": 0.1,
        }
        for steps in (8, 32)
        for calls in ((2 if method == "latent-flow" else 32 if method == "ar" else steps),)
    ]  # fmt: skip
    nan = math.nan
    return Row(
        method, 1e-3, bits, 0.02, nan, 1, False, nan, nan, 1, 1.0, 1.0, nan, 1, samples, curve
    )


def comparison(*methods):
    """A comparison of methods whose order is that of their bits."""
    rows = [row(name, 2 + 0.01 * k) for k, name in enumerate(methods)]
    text = JudgeScore(BitsPerToken(2.0, 0.01), BitsPerToken(2.0, 0.01))
    return Comparison(text, 1.0, {}, rows, [], [])


def drawn(picture):
    """The figure of a picture as it is written."""
    with styled():
        figure = new_figure(*picture.size)
        picture.draw(figure)
        FigureCanvasAgg(figure).draw()
    return figure


def names_of(axes):
    return [text for text in axes.texts if isinstance(text, Annotation)]


ALL = comparison(*METHODS)
PICTURES = (LearningPicture, SamplesPicture)


@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.parametrize("focus", [("mdlm", "dsl-encoder", "ardm"), tuple(TABLE_1[:MOST])])
def test_the_methods_asked_for_are_in_colour_in_their_order_and_all_others_grey(kind, focus):
    colours = dict(zip(focus, FOCUS_COLOURS, strict=False))
    for axes in drawn(kind(ALL, focus)).axes:
        shown = {text.get_text(): to_hex(text.get_color()) for text in names_of(axes)}
        shown.pop("the text", None)
        assert shown == {name: colours.get(name, GREY_TEXT) for name in METHODS}
        coloured = [line for line in axes.lines if to_hex(line.get_color()) in FOCUS_COLOURS]
        grey = [line for line in axes.lines if to_hex(line.get_color()) == GREY]
        # Error bars have two caps, which are lines too.
        assert len(coloured) == 3 * len(focus)
        assert len(grey) == len(METHODS) - len(focus)
        thick = [line.get_linewidth() for line in coloured if line.get_linestyle() == "-"]
        assert min(thick) > 2 * max(line.get_linewidth() for line in grey)


@pytest.mark.parametrize("methods", [METHODS, TABLE_1, ("ar", "mdlm")])
@pytest.mark.parametrize("kind", PICTURES)
def test_no_name_covers_another_name_or_a_panel(kind, methods):
    figure = drawn(kind(comparison(*methods)))
    for axes in figure.axes:
        # The extent of an annotation includes its arrow; that of a text does not.
        boxes = [Text.get_window_extent(text) for text in names_of(axes)]
        assert len(boxes) >= len(methods)
        assert all(box.x0 > axes.bbox.x1 and box.x1 <= figure.bbox.x1 for box in boxes)
        for below, above in pairwise(sorted(boxes, key=lambda box: box.y0)):
            assert below.y1 <= above.y0 + 1
        others = [other.bbox for other in figure.axes if other is not axes]
        assert not any(box.overlaps(other) for box in boxes for other in others)


def test_labels_that_have_room_stay_and_the_others_keep_their_order_without_overlap():
    assert spread([10, 30, 50], [10, 10, 10], 60) == [10, 30, 50]
    # Two at one height move apart by half a label each; the third is where it should be.
    assert spread([20, 20, 50], [10, 10, 10], 60) == [15, 25, 50]
    # A taller label keeps its own distance.
    assert spread([20, 20], [10, 20], 60) == [12.5, 27.5]
    # At an end of the panel they move inwards.
    assert spread([0, 0, 60], [10, 10, 10], 60) == [5, 15, 55]
    assert spread([60, 60], [10, 10], 60) == [45, 55]
    assert spread([3], [10], 5) == [5]


def test_by_default_the_best_of_every_family_is_in_focus():
    ours, paper, ar, masked, uniform, continuous = in_focus(comparison(*TABLE_1).rows)
    assert (ours, paper, ar) == ("dsl", "dsl-paper", "ar")
    # Those that come first have the lowest bits.
    assert (masked, uniform, continuous) == ("mdlm", "d3pm-uniform", "plaid")
    backwards = in_focus(comparison(*reversed(TABLE_1)).rows)
    assert backwards == ("dsl", "dsl-paper", "ar", "sedd-absorbing", "sedd-uniform", "latent-flow")
    # Where families are missing the best of the others take their places.
    few = in_focus(comparison("ardm", "mdlm-prior", "md4", "ar", "mac", "mdlm", "ar-left").rows)
    assert few == ("ar", "md4", "ardm", "mdlm-prior", "mac", "mdlm")
    assert in_focus(ALL.rows, ("ardm",)) == ("ardm",)
    assert in_focus(comparison("ar").rows, ("ardm", "ar")) == ("ar",)
    assert {name for group in GROUPS for name in group} <= set(METHODS)


def test_a_focus_is_at_most_six_known_methods():
    assert parse_focus(None) == ()
    assert parse_focus("mdlm, dsl") == ("mdlm", "dsl")
    with pytest.raises(ValueError, match="no method 'mdml'"):
        parse_focus("mdml")
    with pytest.raises(ValueError, match="At most 6 methods can be in focus, not 7"):
        parse_focus(",".join(TABLE_1[:7]))


def test_the_focus_changes_the_picture_and_not_the_table(tmp_path):
    for folder, focus in (("default", ()), ("chosen", ("ardm",))):
        for name, picture in pictures(comparison(*TABLE_1), focus).items():
            write(picture, tmp_path / folder, name)
    for name in ("learning", "samples"):
        plain, chosen = (tmp_path / folder / name for folder in ("default", "chosen"))
        table = plain.with_suffix(".csv").read_bytes()
        assert table == chosen.with_suffix(".csv").read_bytes()
        assert all(method in table.decode() for method in TABLE_1)
        assert plain.with_suffix(".png").read_bytes() != chosen.with_suffix(".png").read_bytes()
        with Image.open(plain.with_suffix(".png")) as image:
            assert image.getpixel((0, 0)) == (255, 255, 255, 255)


def test_the_command_draws_the_methods_asked_for_and_names_those_without_results(
    tmp_path, monkeypatch, capsys
):
    def finished(*arguments):
        return comparison("ar", "mdlm", "md4")

    monkeypatch.setattr("stochloc.tasks.compare.compare.compare", finished)
    common = ("compare", "--data", "text", "--out", str(tmp_path), "--focus")
    main([*common, "md4,ardm"])
    assert "ardm has no results here" in capsys.readouterr().err
    picture = (tmp_path / "learning.svg").read_text(encoding="utf-8")
    # The colour of the line that was asked for; those of further lines are not there.
    assert FOCUS_COLOURS[0] in picture and FOCUS_COLOURS[1] not in picture


def test_a_method_unknown_to_the_focus_is_refused_before_anything_is_trained(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("stochloc.tasks.compare.compare.compare", lambda *_: pytest.fail("trained"))
    with pytest.raises(SystemExit) as stopped:
        main(["compare", "--data", "text", "--out", str(tmp_path / "new"), "--focus", "mdml"])
    assert stopped.value.code == 2 and "no method 'mdml'" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
