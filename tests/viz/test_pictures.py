"""Pictures: what they measure, and that their files are whole."""

import csv
import math
import sys
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pytest
import torch
from core.worlds import WORLDS, cyclic, generator
from PIL import Image

from stochloc.cli import main
from stochloc.cli.plot import Plot
from stochloc.core import (
    UNKNOWN,
    Ancestral,
    Decode,
    Diffusion,
    Follow,
    Geometric,
    Masked,
    Tempered,
    line_integral,
    observe,
)
from stochloc.names import PATHS
from stochloc.tasks.cyclic import CyclicExperiment
from stochloc.tasks.evaluate import Evaluation, evaluate, evaluate_part
from stochloc.tasks.parts import SequencePart, TextPart, part_to_evaluate, tokens_to_evaluate
from stochloc.tasks.runs import open_run
from stochloc.tasks.walks import WalkSettings
from stochloc.training.snr import Endpoints, Masks, SentenceLogNormal, TokenLogNormal
from stochloc.viz import calibration, error, files, paths, steps, style, training, walk
from stochloc.viz import cyclic as localization
from stochloc.viz.figures import FIGURES
from stochloc.viz.held_out import Group, HeldOut, held_out_of, measured

pytestmark = pytest.mark.bulk

TEXT = "the quick brown fox jumps over the lazy dog and runs away. "
NAMES = [f"{'ab' * (n % 4)}{'c' * (n % 3)}{n:b}" for n in range(1, 80)]
WORLD = WORLDS["markov chain"]
# 5.3 standard errors are exceeded once in 10^7.
SIGMAS = 5.3
FAST = {"--sequences": ("3",), "--counts": ("1", "2"), "--length": ("8",), "--steps": ("8",),
        "--size": ("3",)}  # fmt: skip


def fast(figure):
    """The settings of `FAST` that a figure has a use for."""
    unused = Plot(figure, Path("figures")).unused()
    return [word for flag, values in FAST.items() if flag not in unused for word in (flag, *values)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a tiny run in it."""
    folder = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STOCHLOC_CACHE", str(folder / "cache"))
        (folder / "text.txt").write_text(TEXT * 40, encoding="utf-8")
        main([
            "train", "--data", str(folder / "text.txt"), "--out", str(folder / "run"),
            "--steps", "2", "--length", "16", "--width", "16", "--depth", "1", "--heads", "2",
            "--batch-size", "4", "--accelerator", "cpu",
        ])  # fmt: skip
        yield folder


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """A folder with a tiny run of sequences in it, and one of sequences in classes."""
    folder = tmp_path_factory.mktemp("named")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STOCHLOC_CACHE", str(folder / "cache"))
        for name in "ab":
            (folder / name).write_text("\n".join(NAMES), encoding="utf-8")
        for run, data in (("run", "{0}"), ("classes", "A={0},B={1}")):
            main([
                "train", "--data", data.format(folder / "a", folder / "b"), "--sequences",
                "--fractions", "0.4", "0.2", "0.4", "--out", str(folder / run), "--steps", "2",
                "--width", "16", "--depth", "1", "--heads", "2", "--batch-size", "4",
                "--accelerator", "cpu",
            ])  # fmt: skip
        yield folder


@pytest.fixture
def few_frames(monkeypatch):
    monkeypatch.setattr(localization, "NUM_FRAMES", 3)
    for name in ("stochloc.tasks.cyclic", "stochloc.viz.cyclic"):
        monkeypatch.setattr(f"{name}.ADAPTIVE_STEPS", 8)


def text_of(world, num_windows, seed=1):
    tokens = world.denoiser.sample(num_windows, generator(seed))
    group = Group(torch.arange(num_windows), tokens, torch.full_like(tokens, UNKNOWN))
    return HeldOut((group,), torch.full((num_windows,), tokens.shape[1]), world.denoiser)


def tokens_of(text):
    (group,) = text.groups
    return group.tokens


def walked(seed):
    exact, five = cyclic(5).denoiser, list("abcde")
    return walk.measure(exact, 5, Follow(Masked()), Ancestral(), 5, five, generator(seed))


def refuse(capsys, *arguments):
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    assert stopped.value.code == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


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
    assert picture.likely[-1] == picture.text


def test_the_integral_of_the_error_field_is_the_line_integral():
    text = text_of(WORLD, 2000)
    field = error.measure(WORLD.denoiser, text, generator(2), num_strata=8)
    total = (field.nats.sum(-1) + field.remainder).double()
    path = Diffusion(error.SPACING).then(Decode(), share=1 / 9)
    other = line_integral(WORLD.denoiser, tokens_of(text), path, 9, generator(3))
    difference = total - other.values
    assert abs(difference.mean()) < SIGMAS * difference.std() / math.sqrt(len(difference))
    bits = float(field.total_bits[0])
    assert bits == pytest.approx(float(total.mean()) / 4 / math.log(2))


def test_the_running_integral_is_the_information_gained_up_to_every_edge():
    text, exact = text_of(WORLD, 2000), WORLD.denoiser
    field = error.measure(exact, text, generator(4), num_strata=6, spacing=Geometric(12.0))
    assert field.edges[0] == 0 and field.edges[-1] == 12
    tokens = tokens_of(text)
    surprise = -exact.log_prob(tokens)
    true_row = (tokens[:, None] == exact.sequences).all(-1)
    for k, edge in enumerate(field.edges[1:].tolist()):
        snr = torch.full(tokens.shape, edge, dtype=torch.float64)
        state = observe(WORLD.codebook, tokens, snr, generator(5 + k))
        left = -exact.sequence_log_posterior(state)[true_row]
        gap = field.nats.cumsum(-1)[:, k] - (surprise - left)
        assert abs(gap.mean()) < SIGMAS * gap.std() / math.sqrt(len(gap))


def test_an_exact_posterior_lies_on_the_diagonal_and_knows_its_error():
    text = text_of(WORLD, 12_000)
    for curve in calibration.measure_reliability(WORLD.denoiser, text, generator(6)).curves:
        assert curve.counts.sum() == tokens_of(text).numel()
        # With fewer tokens an error estimated from themselves is no safe ground.
        filled = (curve.counts >= 500) & (curve.confidence < 0.95)
        gap = (curve.accuracy - curve.confidence)[filled].abs()
        assert (gap < SIGMAS * curve.stderr[filled]).all()
    picture = calibration.measure_uncertainty(WORLD.denoiser, text, generator(7))
    mean, stderr = picture.per_token(picture.errors - picture.claims)
    small = torch.tensor(picture.snr) <= 6
    assert (mean.abs() < SIGMAS * stderr)[small].all()


def test_an_overconfident_posterior_leaves_the_diagonal():
    text, hasty = text_of(WORLD, 3000), Tempered(WORLD.denoiser, 0.5)
    for curve in calibration.measure_reliability(hasty, text, generator(8)).curves[:2]:
        fullest = curve.counts.argmax()
        assert (curve.confidence - curve.accuracy)[fullest] > 5 * curve.stderr[fullest]
    picture = calibration.measure_uncertainty(hasty, text, generator(9))
    mean, stderr = picture.per_token(picture.errors - picture.claims)
    assert (mean > 5 * stderr)[torch.tensor(picture.snr) <= 3].all()


def test_the_histogram_of_training_is_the_law_that_was_drawn():
    field = error.measure(WORLD.denoiser, text_of(WORLD, 4), generator(0), num_strata=4)
    law = SentenceLogNormal()
    picture = training.measure(law, field, generator(1))
    assert (picture.at_zero, picture.at_infinity) == (0, 0)
    normal = torch.distributions.Normal(law.mean, law.sigma)
    log_edges = picture.edges.log()
    mass = picture.density * log_edges.diff()
    # One stratified γ per row: a bin of 4,096 rows is off by two rows per batch at most.
    expected = normal.cdf(log_edges).diff()
    assert (mass - expected).abs().max() < 2 / training.BATCH
    mixed = training.measure(Endpoints(TokenLogNormal()), field, generator(2))
    # E p (1 - q) = E p q = 1/4; the spread of p q over 4,096 rows is 0.0034.
    assert abs(mixed.at_zero - 0.25) < 0.02 and abs(mixed.at_infinity - 0.25) < 0.02
    assert float((mixed.density * mixed.edges.log().diff()).sum()) == pytest.approx(1, abs=0.01)
    ends = training.measure(Masks(), field, generator(3))
    assert ends.at_zero + ends.at_infinity == 1 and ends.density.sum() == 0


@pytest.mark.bulk
def test_cyclic_walks_start_where_they_should_climb_and_end_in_a_cycle():
    pictures = localization.measure(CyclicExperiment(7, recovery_snr=0.5, seed=3))
    generation, recovery = pictures["generation"], pictures["recovery"]
    assert generation.read == ["_"] * 7 and not generation.z[0].any()
    assert recovery.read.count("_") == 2
    assert sum(r not in ("_", o) for r, o in zip(recovery.read, recovery.original)) == 2  # noqa: B905
    shown = torch.tensor([r != "_" for r in recovery.read])
    assert torch.allclose(recovery.z[0].norm(dim=-1), 0.5 * shown.double())
    for picture in pictures.values():
        assert "".join(picture.result) in "ABCDEFGABCDEFG"
        assert (picture.snr.diff(dim=0) >= 0).all() and picture.snr.isfinite().all()
        # The code of the symbol that was decided is where z went.
        ends = picture.z[-1] @ cyclic(7).codebook.vectors.T
        decided = torch.tensor(["ABCDEFG".index(symbol) for symbol in picture.result])
        assert (ends.gather(-1, decided[:, None]) > 0).all()


def test_a_bound_in_the_figure_of_steps_is_what_eval_says(place, monkeypatch, capsys):
    run = open_run(place / "run")
    tokens = tokens_to_evaluate(run, None, None)[0]
    # Eight blocks of two tokens cannot be walked in four steps.
    monkeypatch.setattr("stochloc.tasks.paths.BLOCK_TOKENS", 2)
    part = TextPart(tokens, "the text")
    picture = steps.measure(run, part, ("diffusion", "block"), (4, 8), 3, seed=7)
    taken = [(b.path, b.transition, b.steps) for b in picture.bounds]
    assert taken == [
        ("diffusion", "ancestral", 4), ("diffusion", "ancestral", 8), ("diffusion", "euler", 4),
        ("diffusion", "euler", 8), ("block", "ancestral", 8), ("block", "euler", 8),
    ]  # fmt: skip
    assert "block in 4 steps left out" in capsys.readouterr().err
    said = evaluate(
        run, tokens, Evaluation(WalkSettings("diffusion", "euler", 4), False, 3, 7)
    ).to_dict()
    bound = picture.bounds[2]
    assert bound.bits == said["bits_per_character"] and bound.denoiser_calls == 4
    assert bound.stderr == said["bits_per_character_stderr"]
    with pytest.raises(ValueError, match="blocks"):
        steps.measure(run, part, ("block",), (4,), 3, seed=7)


@pytest.mark.parametrize("name", ["run", "classes"])
def test_sequences_are_asked_about_whole_and_boundaries_and_labels_given(name, named):
    run = open_run(named / name)
    part = part_to_evaluate(run, None, None)
    assert isinstance(part, SequencePart)
    text = held_out_of(run, part, 12)
    chosen = part.sequences.spaced(12)
    assert text.described == "12 sequences" and len(text.groups) > 2
    assert text.num_free.tolist() == text.characters.tolist() == chosen.lengths.tolist()
    given = 2 if name == "run" else 3
    for group in text.groups:
        rows = chosen.rows(group.numbers.numpy())
        assert (group.tokens == rows).all() and (group.known != UNKNOWN).sum(-1).eq(given).all()
    field = error.measure(text.denoiser, text, generator(1), num_strata=3)
    assert field.errors.shape == (12, 3) and (field.errors <= 2 * text.num_free[:, None]).all()
    for curve in calibration.measure_reliability(text.denoiser, text, generator(2)).curves:
        assert curve.counts.sum() == chosen.lengths.sum()
    picture = calibration.measure_uncertainty(text.denoiser, text, generator(3))
    assert (picture.claims <= text.num_free[:, None]).all() and (picture.claims > 0).any()
    bits, stderr = field.total_bits
    assert bits.isfinite().all() and (stderr > 0).all()


def test_what_is_measured_records_no_gradients(named):
    """Of a large vocabulary a posterior is asked block by block, and graphs would keep them all."""
    run = open_run(named / "run")
    text = held_out_of(run, part_to_evaluate(run, None, None), 4)
    seen = []

    def values(prediction):
        seen.append(prediction.posterior.mean.requires_grad)
        return prediction.nats.sum(-1)

    assert run.model.head.requires_grad
    measured(text.denoiser, text, torch.ones(len(text)), generator(1), values)
    assert seen and not any(seen)


def test_the_integral_of_the_error_of_sequences_is_their_line_integral(named):
    run = open_run(named / "run")
    part = part_to_evaluate(run, None, "all")
    text = held_out_of(run, part, 80)
    field = error.measure(text.denoiser, text, generator(4), num_strata=8)
    evaluation = Evaluation(WalkSettings("diffusion", num_steps=9), True, 80)
    other = evaluate_part(run, part, evaluation).estimate.values
    # Of the same sequences, in the same order: 79 differences.
    gap = (field.nats.sum(-1) + field.remainder).double() - other
    assert abs(gap.mean()) < SIGMAS * gap.std() / math.sqrt(len(gap))


def test_a_bound_of_sequences_in_the_figure_of_steps_is_what_eval_says(named):
    run = open_run(named / "classes")
    part = part_to_evaluate(run, None, None)
    (bound,) = steps.measure(run, part, "diffusion", (4,), 5, seed=7).bounds[:1]
    walk = WalkSettings("diffusion", "ancestral", 4)
    said = evaluate_part(run, part, Evaluation(walk, False, 5, 7)).to_dict()
    assert (bound.bits, bound.stderr) == tuple(
        said[f"bits_per_character{end}"] for end in ("", "_stderr")
    )


@pytest.mark.parametrize("name", ["training", "error", "steps", "calibration"])
def test_figures_of_sequences_are_drawn_by_the_same_command(name, named, tmp_path):
    data = ("--data", str(named / "a"))
    main(["plot", name, str(named / "run"), "--out", str(tmp_path), *fast(name), *data])
    assert len(list(tmp_path.glob("*.svg"))) == (2 if name == "calibration" else 1)


def test_a_walk_has_no_more_tokens_than_a_sequence(named, tmp_path, capsys):
    main(["plot", "walk", str(named / "run"), "--out", str(tmp_path), "--steps", "4"])
    lengths = open_run(named / "run").lengths
    assert lengths is not None
    longest = lengths.longest
    assert f"the walk has {longest} tokens" in capsys.readouterr().err
    _, *rows = csv.reader((tmp_path / "walk.csv").read_text(encoding="utf-8").splitlines())
    assert len(rows) == 4 * longest


@pytest.mark.parametrize("name", FIGURES)
def test_one_command_writes_whole_files_and_the_same_seed_the_same_table(
    name, place, tmp_path, capsys, few_frames
):
    settings = dict(matplotlib.rcParams)
    for folder in ("first", "again"):
        main(["plot", name, str(place / "run"), "--out", str(tmp_path / folder), *fast(name)])
    assert dict(matplotlib.rcParams) == settings
    made = sorted((tmp_path / "first").iterdir())
    assert {str(path) for path in made} <= set(capsys.readouterr().out.splitlines())
    assert {".png", ".svg", ".csv"} <= {path.suffix for path in made}
    for path in made:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert image.mode == "RGBA" and image.getextrema()[3] == (255, 255)
        elif path.suffix == ".gif":
            with Image.open(path) as image:
                steps = int(fast(name)[fast(name).index("--steps") + 1]) if name == "walk" else 3
                assert getattr(image, "n_frames", 1) == steps
        elif path.suffix == ".svg":
            assert ElementTree.parse(path).getroot().tag.endswith("svg")
        else:
            header, *rows = csv.reader(path.read_text(encoding="utf-8").splitlines())
            assert rows and all(len(row) == len(header) for row in rows)
            assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


@pytest.mark.bulk
def test_cyclic_draws_its_figures_beside_its_results(tmp_path, capsys, monkeypatch, few_frames):
    monkeypatch.setattr("stochloc.tasks.cyclic.STEPS", (1,))
    main(["cyclic", "--size", "3", "--sequences", "5", "--figures", str(tmp_path), "--json"])
    assert capsys.readouterr().out.startswith("{")
    assert {path.name for path in tmp_path.iterdir()} == {
        f"cyclic-{part}.{kind}"
        for part in ("generation", "recovery")
        for kind in ("png", "svg", "csv", "gif")
    }


def test_curves_of_every_path_and_a_tuned_one_are_told_apart():
    names = (*PATHS, "tuned")
    bounds = [steps.StepsBound(name, "ancestral", 2, 2, 1.0, 0.1) for name in names]
    with style.styled():
        figure = style.new_figure(7, 4)
        steps.StepsPicture(bounds, 3).draw(figure)
    drawn = [line for line in figure.axes[0].lines if line.get_marker() in style.MARKERS]
    assert len({(line.get_color(), line.get_marker()) for line in drawn}) == len(names) > 7


def test_all_colours_can_be_seen_on_white():
    def luminance(colour):
        channels = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(colour):
        return 1.05 / (luminance(colour) + 0.05)

    assert all(contrast(colour) > 2.9 for colour in (*style.COLOURS, *style.FOCUS_COLOURS))
    # Of small text.
    assert contrast(style.INK) > 4.5 and contrast(style.GREY_TEXT) > 4.5
    # What is not in focus is fainter than all that is.
    assert contrast(style.GREY) < 2


def test_unprintable_tokens_do_not_spoil_a_picture(tmp_path):
    picture = walk.WalkPicture([[1.0, 0.0, math.inf, 2.0]], [["$"] * 4], ["\x00", "\n", "$a$", " "])
    _, svg, *_ = files.write(picture, tmp_path, "odd")
    assert ElementTree.parse(svg).getroot().tag.endswith("svg")


@pytest.mark.parametrize("name", ["training", "error", "steps", "calibration", "walk", "all"])
def test_a_figure_of_a_model_without_a_run_is_refused(name, tmp_path, capsys):
    assert "about a model" in refuse(capsys, "plot", name, "--out", tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--sequences", 1), "at least two windows"),
        (("--length", 0), "--length must be at least 1"),
        (("--size", 1), "--size must be at least 2"),
        (("--size", 53), "letters"),
        (("--counts", 0), "--counts must be at least 1"),
        (("--steps", 0), "--steps must be at least 1"),
        (("--data", "absent.txt"), "absent.txt"),
    ],
)
def test_settings_out_of_range_are_refused_in_a_sentence(
    arguments, reason, place, tmp_path, capsys, monkeypatch
):
    quick = {"paths": FIGURES["paths"]}
    wanted = {"--size": "cyclic", "--counts": "steps", "--steps": "walk", "--data": "error"}
    quick |= {name: FIGURES[name] for name in [wanted.get(arguments[0], "paths")]}
    monkeypatch.setattr("stochloc.viz.figures.FIGURES", quick)
    assert reason in refuse(capsys, "plot", "all", place / "run", "--out", tmp_path, *arguments)


def test_the_parser_refuses_an_unknown_figure(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["plot", "portrait", "--out", str(tmp_path)])
    assert stopped.value.code == 2
    assert "portrait" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["paths", "cyclic", "error"])
def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_measured(
    name, place, tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(FIGURES, name, lambda subject: pytest.fail("measured"))
    (tmp_path / "file").write_text("")
    sentence = refuse(capsys, "plot", name, place / "run", "--out", tmp_path / "file")
    assert "Cannot write figures into" in sentence


def test_without_matplotlib_the_extra_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "stochloc[plot]" in refuse(capsys, "plot", "paths", "--out", tmp_path)
    assert "stochloc[plot]" in refuse(capsys, "cyclic", "--figures", tmp_path)
