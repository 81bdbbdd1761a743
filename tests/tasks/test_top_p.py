"""Walks that keep to the nucleus of every posterior, as commands choose them."""

import pytest
import torch

from stochloc.core import Ancestral, Autoregressive, Streams, between, start
from stochloc.tasks.generate import generate, prompt_tokens
from stochloc.tasks.policies import POLICIES, PolicyChoice
from stochloc.tasks.runs import open_run
from stochloc.tasks.walks import Walk, WalkSettings

pytestmark = pytest.mark.bulk

NUM, LENGTH = 6, 8


@pytest.fixture(scope="module")
def run(trained):
    return open_run(trained / "run")


def narrow(top_p: float) -> Walk:
    return Walk(Autoregressive(), Ancestral(), LENGTH, top_p=top_p)


def streams() -> Streams:
    return Streams([torch.Generator()] * NUM, torch.device("cpu"))


def tokens_of(run, walk: Walk, seed: int = 0) -> torch.Tensor:
    texts = generate(run, NUM, LENGTH, walk, seed=seed).samples
    return torch.cat([prompt_tokens(run.tokenizer, text, 1, LENGTH) for text in texts])


def test_a_nucleus_of_one_value_draws_the_most_likely_token_of_every_place(run):
    sides = between(run.model)
    assert sides is not None
    nothing = start(run.model.codebook, 1, LENGTH)
    text = nothing.known
    for place in range(LENGTH):
        left = nothing.reveal(text, text >= 0)
        text[:, place] = sides(left, nothing).mode[:, place]
    for seed in (0, 1):
        assert torch.equal(tokens_of(run, narrow(1e-9), seed), text.expand(NUM, -1))


def test_the_likelihood_of_the_walk_is_finite_for_its_own_texts_and_infinite_for_others(run):
    walk = narrow(0.5)
    drawn = tokens_of(run, walk)
    own = walk.bound(run.model, drawn, streams()).values
    assert bool(own.isfinite().all())
    # The values left out had probability, which those that are kept now share.
    assert bool((own < narrow(1.0).bound(run.model, drawn, streams()).values).all())
    sides = between(run.model)
    assert sides is not None
    nothing = start(run.model.codebook, 1, LENGTH)
    other = drawn.clone()
    size = run.tokenizer.vocabulary_size
    other[:, 0] = int(sides(nothing, nothing).log_probs_of(0, size)[0, 0].argmin())
    assert bool(walk.bound(run.model, other, streams()).values.isinf().all())


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_walks_within_the_nucleus(run, policy):
    """From one place alone: whatever the order, its token is one of the nucleus."""
    settings = WalkSettings("masked", num_steps=4, policy=PolicyChoice(policy), top_p=0.3)
    sides, nothing = between(run.model), start(run.model.codebook, 1, 1)
    assert sides is not None
    inside = sides(nothing, nothing).nucleus(0.3)
    texts = generate(run, 40, 1, settings.resolve(run)).samples
    drawn = torch.cat([prompt_tokens(run.tokenizer, text, 1, 1) for text in texts])
    allowed = (inside.log_probs_of(0, run.tokenizer.vocabulary_size)[0, 0] > -torch.inf).nonzero()
    assert 1 < len(allowed) < run.tokenizer.vocabulary_size / 2
    assert set(drawn.flatten().tolist()) <= set(allowed.flatten().tolist())


def test_sample_and_infill_keep_to_it_and_to_all_else_that_is_asked(trained, encoder, call_json):
    for folder in (trained / "run", encoder):
        few = ("sample", folder, "--n", 3, "--length", 6, "--steps", 6)
        free = call_json(*few)["samples"]
        assert call_json(*few, "--top-p", 1)["samples"] == free
        one = (*few, "--path", "autoregressive", "--top-p", 1e-9)
        guided = call_json(*one, "--prompt", "th", "--guidance", 2)["samples"]
        assert len(set(guided)) == 1
        assert guided[0].startswith("th")
        fill = ("infill", folder, "th_ d__", "--constraint", "aeiou", "--draws", 8)
        answers = call_json(*fill, "--path", "autoregressive", "--steps", 16, "--top-p", 1e-9)
        assert len(answers["answers"]) == 1
        assert set("".join(answers["answers"][0]["blanks"])) <= set("aeiou")
        assert len(call_json(*fill)["answers"]) > 1


@pytest.mark.parametrize("value", ["0", "1.5", "-1", "nan"])
def test_a_mass_that_is_none_is_refused(trained, refuse, value):
    for command in (("sample",), ("infill",)):
        text = ("th_",) if command == ("infill",) else ()
        said = refuse(*command, trained / "run", *text, "--top-p", value)
        assert "--top-p must be above 0 and at most 1, not" in said
