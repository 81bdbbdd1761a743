"""Texts drawn by speculation, as `sample --speculate` draws them."""

from dataclasses import replace

import pytest
import torch
from core.counts import chi_square
from core.worlds import Incoherent, every_text

from stochloc.core import SimplexCodebook, left_to_right
from stochloc.tasks.generate import generate, prompt_tokens
from stochloc.tasks.runs import open_run
from stochloc.tasks.walks import SpeculativeWalk, WalkSettings

LENGTH, NUM = 2, 500
SPECULATE = WalkSettings("autoregressive", num_steps=LENGTH, temperature=0.8, speculates=True)


class OnCpu(Incoherent):
    head = torch.zeros(1)  # a run knows its device by it


@pytest.fixture(scope="module")
def run(trained):
    return open_run(trained / "run")


@pytest.mark.bulk
def test_texts_have_the_distribution_of_the_walk_from_left_to_right(run):
    """False alarms below 1e-7. Power: texts drawn in one step, as the first draft is, are told."""
    size = run.tokenizer.vocabulary_size
    model = OnCpu(SimplexCodebook(size), LENGTH, 4.0)
    texts = every_text(size, LENGTH)

    def statistic(settings):
        walk = replace(settings, temperature=1.0).resolve(run)
        drawn = generate(replace(run, model=model), NUM, LENGTH, walk).samples
        tokens = torch.cat([prompt_tokens(run.tokenizer, text, 1, LENGTH) for text in drawn])
        return chi_square(tokens, texts, left_to_right(model, texts).values)

    value, threshold = statistic(SPECULATE)
    assert value < threshold
    value, threshold = statistic(WalkSettings("autoregressive", num_steps=1))
    assert value > threshold


def test_the_calls_reported_are_those_that_the_model_was_asked(run, monkeypatch):
    asked = []
    own = type(run.model)._from_sides

    def from_sides(self, *sides):
        asked.append(sides)
        return own(self, *sides)

    monkeypatch.setattr(type(run.model), "_from_sides", from_sides)
    walk = SPECULATE.resolve(run)
    assert isinstance(walk, SpeculativeWalk)
    drawn = generate(run, 3, 12, walk, prompt="the")
    assert drawn.denoiser_calls == len(asked)
    assert 1 < drawn.denoiser_calls <= 9
    assert all(text.startswith("the") for text in drawn.samples)


def test_a_text_is_the_same_alone_and_beside_others_on_the_command_line(trained, call_json):
    command = ("sample", trained / "run", "--speculate", "--length", 10, "--top-p", 0.9)
    three = call_json(*command, "--n", 3)
    assert three["samples"][:1] == call_json(*command, "--n", 1)["samples"]
    assert three["denoiser_calls"] <= 10
    assert three == {**call_json(*command, "--n", 3, "--path", "autoregressive"),
                     "seconds": three["seconds"]}  # fmt: skip


@pytest.mark.parametrize(("flags", "why"), [
    (("--path", "masked"), "takes no other path"), (("--steps", 3), "no effect with --speculate"),
    (("--trace",), "no effect with --speculate"),
    (("--policy", "entropy"), "no effect with --speculate"),
    (("--corrector-rounds", 1), "no effect with --speculate"),
])  # fmt: skip
def test_what_speculation_cannot_heed_is_refused(trained, refuse, flags, why):
    assert why in refuse("sample", trained / "run", "--speculate", *flags)


def test_a_model_that_looks_at_the_token_it_predicts_is_refused(encoder, refuse):
    assert "two-sided" in refuse("sample", encoder, "--speculate")


def test_there_are_no_steps_to_trace(run):
    with pytest.raises(ValueError, match="no steps"):
        generate(run, 1, 4, SPECULATE.resolve(run), trace=lambda step: None)
