"""Correction by single edits: what is made is what Bayes' rule says, at any length."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from tasks.exact_chain import Chain

from stochloc.data.lengths import Lengths
from stochloc.tasks.correct.channels import Substitutions, rate_at, soft_mask
from stochloc.tasks.correct.correct import correct, edit_snr
from stochloc.tasks.correct.drafts import Draft
from stochloc.tasks.correct.edits import LikelyEdits
from stochloc.tasks.correct.errors import EqualKinds
from stochloc.tasks.correct.reading import Decision, Reading
from stochloc.tasks.runs import open_run

pytestmark = pytest.mark.bulk

SIZE = 3
CHAIN = Chain.drawn(SIZE, 2, 2.0, 3.0)
EVERYWHERE = LikelyEdits(0.0, num_places=9, num_tokens=SIZE, num_rounds=1, reach=99)


def reading(tokens, snr):
    tokens = torch.tensor([tokens])
    levels = torch.tensor(snr, dtype=torch.float64).expand(tokens.shape)
    state = soft_mask(CHAIN.codebook, Substitutions(SIZE), tokens, levels)
    return Reading(state, tokens, torch.ones_like(tokens, dtype=torch.bool), EqualKinds(SIZE))


def single_edits(text):
    """Every other text that one edit gives, with the places it touches or lies between."""
    edited = {}
    for i in range(len(text) + 1):
        for token in range(SIZE):
            edited.setdefault((*text[:i], token, *text[i:]), (i - 1, i))
    for i in range(len(text)):
        edited.setdefault((*text[:i], *text[i + 1 :]), (i,))
        for token in range(SIZE):
            edited.setdefault((*text[:i], token, *text[i + 1 :]), (i,))
        if i + 1 < len(text):
            edited.setdefault((*text[:i], text[i + 1], text[i], *text[i + 2 :]), (i, i + 1))
    edited.pop(text, None)
    return edited


def nats_of_reading(read, text, rate):
    """`-log P(read|text)`, less that of a text without errors: each kind is as likely as others."""
    sound = (1 - rate) / rate
    if len(text) == len(read):
        num = sum(a != b for a, b in zip(read, text, strict=True))
        return math.log(sound * (SIZE - 1) if num == 1 else max(1.0, sound))
    return math.log(sound * SIZE if len(text) < len(read) else max(1.0, sound))


@pytest.mark.parametrize("snr", [0.0, 0.7, 2.0])
@pytest.mark.parametrize("lengths", [None, Lengths((0.01, 0.04, 0.6, 0.34, 0.01))])
def test_the_edit_made_is_the_most_probable_of_all_single_ones(snr, lengths):
    def log_prob(text):
        of_length = 0.0 if lengths is None else float(lengths.log_prob(torch.tensor(len(text))))
        return of_length + CHAIN.log_prob(text)

    decoder = replace(EVERYWHERE, lengths=lengths)
    changed = set()
    for number in range(12):
        generator = torch.Generator().manual_seed(number)
        read = tuple(torch.randint(SIZE, (4,), generator=generator).tolist())
        rate = float(rate_at(torch.tensor(snr, dtype=torch.float64), SIZE))
        scores = {
            text: log_prob(text) - nats_of_reading(read, text, rate) for text in single_edits(read)
        }
        scores[read] = log_prob(read)
        best = max(scores, key=lambda text: scores[text])
        decided = decoder.decide(CHAIN, reading(read, snr))
        (text,) = (part.text() for part in rows(decided))
        assert tuple(text.tolist()) == best
        if best == read:
            continue
        changed.add(len(best) - len(read))
        total = math.fsum(math.exp(score) for score in scores.values())
        told = [float(p) for p in probabilities(decided, read)]
        assert told == pytest.approx([math.exp(scores[best]) / total] * len(told), abs=1e-9)
    assert changed or snr == 2.0


def swapped(text, at):
    return (*text[:at], text[at + 1], text[at], *text[at + 2 :])


def test_of_all_neighbours_those_are_swapped_that_are_most_probable_in_each_others_place():
    made = set()
    for number in range(12):
        generator = torch.Generator().manual_seed(number)
        read = tuple(torch.randint(SIZE, (5,), generator=generator).tolist())
        log_probs = CHAIN(reading(read, 0.3).state).log_probs[0]
        gains = {
            at: float(sum(log_probs[[at, at + 1], [second, first]]))
            - float(sum(log_probs[[at, at + 1], [first, second]]))
            for at, (first, second) in enumerate(pairwise(read))
            if first != second
        }
        for num in (0, 1, 9):
            decoder = replace(EVERYWHERE, num_swaps=num)
            draft = Draft.of(reading(read, 0.3), 0)
            edits = decoder._proposals(CHAIN, draft).edits
            tried = {edit.place for edit in edits if len(edit.tokens) == 2}
            assert tried == set(sorted(gains, key=lambda at: -gains[at])[:num])
            assert all(
                draft.edited(edit, 1.0).text() == swapped(read, edit.place)
                for edit in edits
                if len(edit.tokens) == 2
            )
            made |= tried
    assert made == {0, 1, 2, 3}


def rows(decided):
    for row in range(len(decided.tokens)):
        yield type(decided)(*(part[row] for part in decided[:4]), decided.calls)


def probabilities(decided, read):
    is_changed = decided.tokens[0] != torch.tensor(read)
    return [*decided.probs[0][is_changed], *decided.inserted_probs[0][decided.inserted[0] >= 0]]


@pytest.mark.parametrize(("read", "places", "snr"), [
    ((0, 1, 2, 0), (0, 1, 2, 3), 0.0), ((2, 2, 1, 0), (1, 2), 0.0),
])  # fmt: skip
def test_only_places_that_were_asked_about_are_edited_and_certain_ones_never(read, places, snr):
    given = reading(read, snr)
    none = torch.zeros_like(given.is_asked)
    decided = EVERYWHERE.decide(CHAIN, given._replace(is_asked=none))
    assert tuple(next(rows(decided)).text().tolist()) == read
    certain = [math.inf if place not in places else snr for place in range(len(read))]
    decided = EVERYWHERE.decide(CHAIN, reading(read, certain))
    kept = [place for place in range(len(read)) if place not in places]
    assert all(int(decided.tokens[0, place]) == read[place] for place in kept)


def test_rounds_go_on_until_nothing_is_probable_enough_and_never_edit_a_place_twice():
    read = (0, 0, 1, 1, 2, 2)
    one = LikelyEdits(0.0, num_places=9, num_tokens=SIZE, num_rounds=1, reach=99)
    many = LikelyEdits(0.0, num_places=9, num_tokens=SIZE, num_rounds=9, reach=99)
    texts = []
    for decoder in (one, many):
        decided = next(rows(decoder.decide(CHAIN, reading(read, 0.3))))
        texts.append(tuple(decided.text().tolist()))
    costs = [CHAIN.log_prob(text) for text in (read, *texts)]
    assert costs[0] < costs[1] < costs[2]
    stopped = next(rows(many.decide(CHAIN, reading(read, 30.0))))
    assert tuple(stopped.text().tolist()) == read


def test_a_threshold_of_one_makes_no_edit_and_every_edit_is_above_its_own():
    read = (0, 0, 1, 1)
    for threshold in (0.0, 0.3, 0.6, 1.0):
        decoder = LikelyEdits(threshold, num_places=9, num_tokens=SIZE, num_rounds=1)
        told = probabilities(decoder.decide(CHAIN, reading(read, 0.0)), read)
        assert all(p > threshold for p in told)
        assert bool(told) is (threshold == 0.0) or threshold in (0.3, 0.6)


class Scripted:
    """Leaves out the third place of every text, and inserts before the first and after the last."""

    threshold, keeps_places = 0.5, False

    def decide(self, denoiser, reading):
        decision = Decision.in_place(reading.tokens, torch.ones(reading.tokens.shape).double(), 1)
        decision.tokens[:, 2] = -1
        decision.inserted[:, [0, -1]] = torch.tensor([1, 2])
        decision.inserted_probs[:, [0, -1]] = torch.tensor([0.25, 0.75]).double()
        return decision


def test_changes_of_length_are_told_at_the_place_where_they_were_read(trained):
    run = open_run(trained / "run")
    first, last = (run.tokenizer.decode([token]) for token in (1, 2))
    result = correct(run, "the fox", Scripted(), 3.0)
    assert result.text == f"{first}th fox{last}"
    assert result.content.decode() == result.text
    assert [(c.position, c.read, c.text, c.probability) for c in result.changes] == [
        (0, "", first, 0.25), (2, "e", "", 1.0), (7, "", last, 0.75),
    ]  # fmt: skip


def test_a_two_sided_model_corrects_by_edits_unless_told_otherwise(
    trained, encoder, call_json, call
):
    # A model that has learned nothing would leave out most of what costs little to leave out.
    settings = ("the quick brown fox jumps", "--snr", 0.1, "--threshold", 0)
    command = ("correct", trained / "run", *settings)
    result = call_json(*command)
    assert len(result["text"]) < len(result["read"])
    assert call_json(*command, "--edits")["changes"] == result["changes"]
    assert "keeps the length" not in call(*command).err
    by_hand = correct(open_run(trained / "run"), settings[0], LikelyEdits(0.0), 0.1)
    assert by_hand.text == result["text"]
    for run, flags in ((trained / "run", ("--one-pass",)), (encoder, ())):
        one_pass = call_json("correct", run, *settings, *flags)
        assert len(one_pass["text"]) == len(one_pass["read"])
        assert one_pass["denoiser_calls"] == 1
    run = open_run(trained / "run")
    assert correct(run, "the fox").snr == edit_snr(run)


def test_texts_in_slots_and_settings_that_make_no_sense_are_refused(slotted):
    with pytest.raises(ValueError, match="slots"):
        correct(open_run(slotted), "the fox", LikelyEdits(0.5), 3.0)
    with pytest.raises(ValueError, match="at least one place"):
        LikelyEdits(0.5, num_places=0)
