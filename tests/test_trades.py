"""The tools of the pages on promoters, chorales and names."""

import math
import random
from collections import Counter
from itertools import product

import numpy as np
import pytest
from chorales import (
    ALPHABET,
    LOWEST,
    as_chords,
    as_text,
    blanked,
    commonest,
    constraints,
    judge,
    ranges,
    voiced,
)
from first_names import parts_of, shares
from markov import END, START, Markov
from promoters import PIECE, families, histogram, pair_frequencies, split, tata_counts

from stochloc.data.ngrams import NgramModel

pytestmark = pytest.mark.bulk


def random_text(length: int, seed: int) -> str:
    return "".join(random.Random(seed).choices("ACGT", (5, 2, 2, 1), k=length))


def test_a_markov_model_of_one_text_is_the_n_gram_model_behind_its_beginning():
    text, order = random_text(400, 1), 3
    model = Markov.fit([text], order)
    ids = np.array(["ACGT".index(base) for base in text])
    other = NgramModel.fit(ids, order + 1, 4).log_prob(ids)[order:]
    mine = [
        math.log(model.probabilities(text[n - order : n])[ids[n]]) for n in range(order, len(ids))
    ]
    assert np.allclose(mine, other, atol=1e-12)


def test_the_probabilities_of_all_texts_of_a_length_add_up_to_one():
    model = Markov.fit([random_text(60, 2), random_text(60, 3)], 2)
    every = ["".join(text) for text in product("ACGT", repeat=4)]
    assert math.isclose(sum(2.0 ** -model.bits(text) for text in every), 1.0)


def test_texts_drawn_from_a_markov_model_have_its_probabilities():
    # 4,000 texts in about twenty cells: a chi-square of more than 80 has probability below 1e-8;
    # exchanging two probabilities of 0.3 and 0.4 would add 100 or more.
    model = Markov.fit([text + END for text in ("ab", "aab", "b", "ba", "aa")], 1)
    generator = np.random.default_rng(0)
    drawn = Counter(model.sample(3, generator) for _ in range(4000))
    expected = {}
    for length in range(4):
        for letters in product("ab", repeat=length):
            text = "".join(letters)
            ends = text if length == 3 else text + END
            expected[text] = 4000 * 2.0 ** -model.bits(ends)
    assert math.isclose(sum(expected.values()), 4000)
    assert sum((drawn[text] - times) ** 2 / times for text, times in expected.items()) < 80
    assert START not in "".join(drawn)


def test_promoters_that_share_a_piece_stay_in_one_part():
    alone = [random_text(80, seed) for seed in range(40)]
    shifted = [text[20:] + random_text(20, 100 + n) for n, text in enumerate(alone[:10])]
    parts = split([*alone, *shifted])
    assert Counter(text for part in parts.values() for text in part) == Counter(alone + shifted)
    assert parts["valid"] and parts["test"]
    for text, moved in zip(alone, shifted, strict=False):
        assert any(text in part and moved in part for part in parts.values())
    assert sorted(map(len, families([*alone, *shifted]))) == [1] * 30 + [2] * 10
    assert len(families([random_text(80, 0), random_text(80, 0)[: PIECE - 1] + "C" * 40])) == 2


def test_boxes_and_pairs_are_counted_where_they_stand():
    box = "G" * 218 + "TATAAAA" + "G" * 75
    near, far = tata_counts([box, box[100:] + box[:100], "CG" * 150])
    assert near.tolist() == [1, 0, 0]
    assert far.tolist() == [0, 1, 0]
    assert histogram([box])[218 // 20] == 1
    pairs = pair_frequencies(["CG" * 150])[0]
    assert np.allclose(sorted(pairs)[-2:], [149 / 299, 150 / 299])


def test_shared_notes_go_to_the_voices_that_move_least():
    songs = [[40, 52, 60, 70], [40, 60, 70], [40, 52, 70], [], [41]]
    assert voiced(songs) == [
        (70, 60, 52, 40),
        (70, 60, 60, 40),
        (70, 52, 52, 40),
        (),
        (41, 41, 41, 41),
    ]


def test_chords_are_written_and_read_alike():
    chords = [(70, 60, 52, 40), (), (71, 61, 53, 41)]
    assert as_chords(as_text(chords)) == chords
    assert as_chords(as_text(chords, 3))[0] == (73, 63, 55, 43)
    assert blanked(as_text(chords)) == f"{ALPHABET[70 - LOWEST]}___.___{ALPHABET[71 - LOWEST]}___"


def test_each_blank_is_held_to_its_own_voice():
    texts = ["DCBA", "dcba"]
    asked = constraints("DCBADCBA", ranges(texts))
    assert asked == ["1:Cc", "2:Bb", "3:Aa", "4:Cc", "5:Bb", "6:Aa"]


def test_what_is_said_of_a_chorale_is_what_is_in_it():
    real = as_text([(72, 67, 64, 48), (74, 69, 65, 50)])
    allowed = ranges([real])
    verdict = judge(real, real, allowed)
    assert (verdict.in_range, verdict.crossing, verdict.harsh, verdict.agreement) == (1, 0, 0, 1)
    assert verdict.parallel == 2, "soprano and bass in octaves, alto and bass in fifths"
    other = as_text([(72, 73, 64, 48), (74, 69, 65, 50)])
    verdict = judge(other, real, allowed)
    assert (verdict.crossing, verdict.harsh) == (0.5, 0.5)
    assert verdict.in_range == verdict.agreement == 5 / 6
    assert commonest([real])[real[0]] == real[:4]


def test_names_are_new_only_if_no_part_holds_them(tmp_path):
    file = tmp_path / "list.txt"
    file.write_text("".join(f"name{n}\n" for n in range(200)))
    parts = parts_of(str(file))
    found = [name for part in parts.values() for name in part]
    assert sorted(found) == sorted(f"name{n}" for n in range(200))
    told = shares(["a", "a", "b", "c"], {"a"}, {"b"})
    assert [share.split()[0] for share in told] == ["0.5", "0.25", "0.25", "0.25"]
