"""Filling blanks: templates, constraints, costs, ranking, and what is refused."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from stochloc.core import (
    Ancestral,
    Autoregressive,
    Diffusion,
    Follow,
    Masked,
    Spread,
    bound,
    left_to_right,
    start,
)
from stochloc.data import ByteTokenizer, CharacterTokenizer, Text8Tokenizer, Tokenizer
from stochloc.data.tokenizers.named import tokenizer_for
from stochloc.data.tokenizers.protocol import PlainText
from stochloc.tasks.infill.fill import Infilling, infill
from stochloc.tasks.infill.templates import Blank, Template, allowed_tokens
from stochloc.tasks.policies import PolicyChoice
from stochloc.tasks.runs import open_run
from stochloc.tasks.walks import Walk

pytestmark = pytest.mark.bulk

LETTERS = Text8Tokenizer()
QUICK = Infilling(num_answers=100, num_draws=40)


@pytest.fixture(scope="module")
def run(trained):
    return open_run(trained / "run")


def shapes(template: str, tokenizer: Tokenizer = LETTERS, marker: str = "_"):
    return [
        tokenizer.decode(piece) if isinstance(piece, tuple) else piece
        for piece in Template.parse(template, tokenizer, marker).pieces
    ]


def test_a_template_reads_as_given_text_and_blanks_in_turn():
    assert shapes("a_b{3}{2-5}") == ["a", Blank(1, 1), "b", Blank(3, 3), "", Blank(2, 5), ""]
    assert shapes("a?b_", CharacterTokenizer("ab_"), "?") == ["a", Blank(1, 1), "b_"]
    assert shapes("{{x}}_", CharacterTokenizer("x{}")) == ["{x}", Blank(1, 1), ""]


def test_layouts_are_all_combinations_of_lengths_with_the_given_tokens_in_place():
    layouts = Template.parse("a{0-1}b{1-2}", LETTERS).layouts()
    seen = {tuple(layout.known.tolist()) for layout in layouts}
    assert seen == {(1, 2, -1), (1, 2, -1, -1), (1, -1, 2, -1), (1, -1, 2, -1, -1)}
    for layout in layouts:
        assert torch.equal(layout.known < 0, layout.blank >= 0)
        assert layout.num_blanks == 2


def test_one_text_is_one_constraint_not_one_for_each_of_its_characters():
    assert torch.equal(allowed_tokens("ab", 2, LETTERS), allowed_tokens(["ab"], 2, LETTERS))
    assert torch.equal(allowed_tokens("2:ab", 2, LETTERS), allowed_tokens(["2:ab"], 2, LETTERS))


@pytest.mark.parametrize(("constraints", "expected"), [
    (("aeiou",), ["aeiou", "aeiou"]), (("2:a-e",), [LETTERS.decode(range(27)), "abcde"]),
    (("a-cx", "1:xy"), ["x", "abcx"]), (("X-Z",), ["xyz", "xyz"]),
    (("x-ÿ",), ["xyz", "xyz"]), (("1:\x00-\U0010ffff",), 2 * [LETTERS.decode(range(27))]),
    (("1: z",), [" z", LETTERS.decode(range(27))]),
])  # fmt: skip
def test_constraints_narrow_the_blanks_they_name_to_what_they_have_in_common(constraints, expected):
    allowed = allowed_tokens(constraints, 2, LETTERS)
    assert [LETTERS.decode(row.nonzero().flatten()) for row in allowed] == expected


def test_a_constraint_is_read_as_a_text_is_in_the_case_and_form_that_the_model_knows():
    upper = CharacterTokenizer("ACGTé")
    for constraints in ("1:acgt", "ACGT", "a-t"):
        allowed = allowed_tokens(constraints, 1, _Capitals(upper))[0]
        assert upper.decode(allowed.nonzero().flatten()) == "ACGT"
    assert upper.decode(allowed_tokens("e\u0301", 1, upper)[0].nonzero().flatten()) == "é"
    for symbol in ",7":
        # Read as a space and as several letters, but it is not the same as these.
        with pytest.raises(ValueError, match=f"'{symbol}' is in no token"):
            allowed_tokens(symbol, 1, LETTERS)


@dataclass(frozen=True)
class _Capitals(PlainText):
    """A tokenizer that reads small letters as capitals."""

    inner: CharacterTokenizer
    is_byte_level = False

    @property
    def vocabulary_size(self):
        return self.inner.vocabulary_size

    def encode(self, text):
        return self.inner.encode(text.upper())

    def encode_stream(self, chunks):
        return self.inner.encode_stream(chunk.upper() for chunk in chunks)

    def decode(self, ids):
        return self.inner.decode(ids)

    def places(self, text):
        return np.arange(len(text))

    def to_dict(self):
        return {"kind": "capitals"}


def test_a_token_is_allowed_if_all_of_its_characters_are():
    tokenizer = tokenizer_for("bpe:262", [b"the cat, the head; the bead " * 3])
    allowed = allowed_tokens("1:a-h ", 2, tokenizer)
    pieces = [tokenizer.decode([token]) for token in allowed[0].nonzero().flatten().tolist()]
    assert "he" in pieces
    assert set("".join(pieces)) == set("abcdefgh ")
    others = (~allowed[0]).nonzero().flatten().tolist()
    assert all(set(tokenizer.decode([token])) - set("abcdefgh ") for token in others)
    assert allowed[1].all()
    with pytest.raises(ValueError, match="'é' is in no token of the model"):
        allowed_tokens("é", 1, tokenizer)


@pytest.mark.parametrize("two_sided", [True, False])
def test_answers_keep_the_given_text_fill_the_blanks_and_differ(run, encoder, two_sided):
    result = infill(run if two_sided else open_run(encoder), "the ____k bro{2} fox", QUICK)
    texts = [answer.text for answer in result.answers]
    assert result.scored == ("text" if two_sided else "blanks")
    assert len(set(texts)) == len(texts) > 5
    for answer in result.answers:
        assert len(answer.blanks) == 5
        assert answer.text == "the {}{}{}{}k bro{} fox".format(*answer.blanks)
        # Of a text longer than the model's window, that window.
        scored = run.length if two_sided else sum(map(len, answer.blanks))
        assert answer.bits_per_character == pytest.approx(answer.nats / math.log(2) / scored)
    nats = [answer.nats for answer in result.answers]
    assert nats == sorted(nats)


@pytest.mark.parametrize("template", ["th_ q_ick", "_h"])
def test_a_two_sided_model_ranks_by_the_exact_likelihood_of_the_whole_text(run, template):
    result = infill(run, template, Infilling(3, 8))
    assert (result.scored, result.ranking) == ("text", "the exact likelihood from left to right")
    assert result.denoiser_calls == template.count("_") + 1
    denoiser = run.denoiser_for(len(template))
    for answer in result.answers:
        tokens = torch.from_numpy(run.tokenizer.encode(answer.text))[None]
        nats, known = 0.0, torch.full_like(tokens, -1)
        for place in range(len(template)):
            state = start(denoiser.codebook, *known.shape, known=known)
            nats -= float(denoiser(state).log_prob(tokens)[0, place].detach())
            known[0, place] = tokens[0, place]
        assert answer.nats == pytest.approx(nats, abs=1e-5)


@pytest.mark.parametrize("path", [Masked(), Diffusion(), Autoregressive(), Spread()])
def test_the_cost_of_an_answer_does_not_depend_on_the_path_it_was_drawn_along(run, path):
    flat = Walk(path, Ancestral(), 4, temperature=50.0)
    drawn = {a.text: a.nats for a in infill(run, "the _uick", Infilling(100, 400, flat)).answers}
    masked = Walk(Masked(), Ancestral(), 4, temperature=50.0)
    other = {a.text: a.nats for a in infill(run, "the _uick", Infilling(100, 400, masked)).answers}
    common = drawn.keys() & other.keys()
    assert len(common) > 5
    assert [drawn[text] for text in common] == pytest.approx([other[text] for text in common])


def test_the_cost_of_an_answer_is_that_of_a_sampler_that_picks_one_of_its_orders(encoder):
    run = open_run(encoder)
    # Two blanks and two orders, to the right and to the left: worked out with the chain rule.
    answer = infill(run, "th_ q_ick", Infilling(1, 4, num_orders=2)).answers[0]
    tokens = torch.from_numpy(run.tokenizer.encode(answer.text))[None]
    known = tokens.clone()
    known[0, [2, 5]] = -1
    given = (0, 1, 3, 4, 6, 7, 8)
    denoiser = run.denoiser_for(9)
    probs = [
        math.exp(
            -bound(
                denoiser, tokens, Follow(Autoregressive((*given, *blanks))), Ancestral(), 9,
                torch.Generator(), known,
            ).mean
        )
        for blanks in ((2, 5), (5, 2))
    ]  # fmt: skip
    assert answer.nats == pytest.approx(-math.log(sum(probs) / 2), abs=1e-5)


def test_all_fillings_of_a_blank_together_have_probability_one(encoder):
    run = open_run(encoder)
    # The cost is that of a sampler, so its probabilities sum to 1; enough draws find every letter.
    flat = Walk(Masked(), Ancestral(), 4, temperature=50.0)
    result = infill(run, "the _uick", Infilling(100, 2000, flat))
    assert len(result.answers) == run.tokenizer.vocabulary_size
    total = math.fsum(math.exp(-answer.nats) for answer in result.answers)
    assert total == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("policy", ["confidence", "tolerance", "remdm-loop", "remdm-conf"])
def test_no_policy_touches_the_given_text(run, policy):
    walk = Walk(Diffusion(), Ancestral(), 8, policy=PolicyChoice(policy))
    answers = infill(run, "the ____k brown", Infilling(9, 9, walk)).answers
    assert len(answers) > 1
    for answer in answers:
        assert answer.text == "the {}{}{}{}k brown".format(*answer.blanks)


def test_texts_with_blanks_of_unknown_length_are_scored_as_a_whole(run):
    told = []
    result = infill(run, "the {1-2}ck", QUICK, say=told.append)
    assert told == [
        f"stochloc: the blanks may have 2 combinations of lengths; each of them is filled "
        f"{QUICK.num_draws} times."
    ]
    assert result.scored == "text"
    assert {len(answer.text) for answer in result.answers} == {7, 8}
    for answer in result.answers:
        tokens = torch.from_numpy(run.tokenizer.encode(answer.text))[None]
        exact = left_to_right(run.denoiser_for(len(answer.text)), tokens)
        assert answer.nats == pytest.approx(exact.mean, abs=1e-5)


def test_an_encoder_scores_a_whole_text_from_the_given_tokens_on(encoder):
    run = open_run(encoder)
    # With one order the whole text's cost is the chain rule: given tokens, then blanks.
    answer = infill(run, "the {1-2}ck", Infilling(1, 8, num_orders=1)).answers[0]
    tokens = torch.from_numpy(run.tokenizer.encode(answer.text))[None]
    length = len(answer.text)
    order = (*range(4), length - 2, length - 1, *range(4, length - 2))
    exact = bound(
        run.denoiser_for(length), tokens, Follow(Autoregressive(order)), Ancestral(), length,
        torch.Generator(),
    )  # fmt: skip
    assert answer.nats == pytest.approx(exact.mean, abs=1e-5)
    assert answer.bits_per_character == pytest.approx(exact.mean / math.log(2) / length)


def test_a_text_that_two_layouts_give_is_one_answer(run):
    result = infill(run, "the {0-1}{0-1}uick", Infilling(100, 200))
    texts = [answer.text for answer in result.answers]
    assert len(set(texts)) == len(texts)
    assert "the uick" in texts


def test_constrained_blanks_hold_allowed_characters_only(run):
    free = infill(run, "the _____ fox", QUICK)
    bound_to = infill(run, "the _____ fox", QUICK, ("aeiou", "2:o-u"))
    assert not all(set("".join(answer.blanks)) <= set("aeiou") for answer in free.answers)
    assert len(bound_to.answers) > 5
    for answer in bound_to.answers:
        assert set("".join(answer.blanks)) <= set("aeiou")
        assert answer.blanks[1] in "ou"


def test_blanks_far_into_a_long_text_are_filled_from_what_stands_around_them(run):
    text = "the quick brown fox jumps over the lazy dog and runs away"
    result = infill(run, text[:50] + "____" + text[54:], QUICK)
    assert len(result.answers) > 5
    for answer in result.answers:
        assert len(answer.text) == len(text)
        assert answer.text[:50] + answer.text[54:] == text[:50] + text[54:]


def test_bytes_are_filled_byte_by_byte_and_need_not_be_characters():
    layout = Template.parse("ä_", ByteTokenizer()).layouts()[0]
    assert layout.known.tolist() == [0xC3, 0xA4, -1]


@pytest.mark.parametrize("two_sided", [True, False])
def test_the_command_prints_answers_and_the_same_seed_gives_the_same(
    trained, encoder, call, call_json, two_sided
):
    folder = trained / "run" if two_sided else encoder
    arguments = ("infill", folder, "the ____ brown", "-n", 3, "--draws", 20)
    result = call_json(*arguments, "--seed", 1)
    again = call_json(*arguments, "--seed", 1)
    assert result["answers"] == again["answers"]
    assert len(result["answers"]) == 3
    needed = {"text", "blanks", "nats", "bits_per_character"}
    assert all(needed <= answer.keys() for answer in result["answers"])
    # One batch of walks of at most four steps, and one call or four orders of four blanks.
    assert result["denoiser_calls"] == 4 + (1 if two_sided else 4 * 4)
    assert result["seconds"] > 0
    lines = call(*arguments, "--seed", 1).out.splitlines()
    assert [line.split("nats  ")[1] for line in lines] == [a["text"] for a in result["answers"]]


@pytest.mark.parametrize(("arguments", "reason"), [
    (("the fox",), "no blank"), (("",), "no blank"), (("the {x} fox",), "'{x}' is not a blank"),
    (("the { fox _",), "'{' is not a blank"), (("the {5-2} fox",), "'{5-2}' is not a blank"),
    (("the {0} fox",), "'{0}' is not a blank"), (("the {} fox",), "'{}' is not a blank"),
    (("the # _",), "'#' at position 5"),
    (("_ {{ # _",), "'{' at position 3"), (("{2} # _",), "'#' at position 5"),
    (("the {17} fox",), "17 tokens"),
    (("the {1-40} fox",), "shorten"), (("{1-9}{1-9}",), "combinations"),
    (("the _", "--blank", ""), "marked by"), (("the _", "--blank", "{"), "marked by"),
    (("the _", "--constraint", "#"), "'#'"), (("the _", "--constraint", "2:a"), "no blank 2"),
    (("the _", "--constraint", "0:a"), "no blank 0"), (("the _", "--constraint", ""), "names no"),
    (("the _", "--constraint", "z-a"), "backwards"),
    (("the _", "--constraint", "α-ω"), "no character of the range α-ω"),
    (("the _", "--constraint", "abc", "1:xyz"), "no allowed token for blank 1"),
    (("the _", "-n", "0"), "--n must"), (("the _", "--draws", "0"), "--draws must"),
    (("the _", "--steps", "0"), "step"), (("the _", "--policy", "nope"), "policy"),
    (("the _", "--path", "tuned"), "tune"), (("the _", "--temperature", "0"), "temperature"),
    (("the _", "--seed", "-1"), "seed"),
])  # fmt: skip
def test_an_invalid_infilling_is_refused(trained, refuse, arguments, reason):
    assert reason in refuse("infill", trained / "run", *arguments)
