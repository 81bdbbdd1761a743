"""Labels in training: a condition that is given with all of a sequence or not at all."""

import math

import torch
from core.worlds import generator

from stochloc.nn import TargetNats
from stochloc.training.objective import UNLABELLED_SHARE, cross_entropy
from stochloc.training.snr import LeftToRight, TokenLogNormal

LABEL, NUM = 7, 20_000


class Watched:
    """Notes the γ it is shown and charges every uncertain token one nat."""

    def token_nats(self, tokens, snr, right_snr, generator, is_full=None):
        self.snr, self.right_snr = snr, right_snr
        return TargetNats(snr.isfinite().to(snr), snr.isfinite())


def shown(tokens, first_label):
    model = Watched()
    loss = cross_entropy(model, tokens, TokenLogNormal(), generator(0), first_label)
    assert loss.item() == 1
    return model.snr


def test_nine_of_ten_sequences_know_all_their_labels_and_the_others_none():
    # Share of NUM sequences within 5.5 errors of 0.0021.
    tokens = torch.tensor([[0, LABEL, 3, LABEL + 1]]).repeat(NUM, 1)
    snr = shown(tokens, LABEL)
    assert bool((snr[:, [0, 2]] == shown(tokens, 0)[:, [0, 2]]).all())
    labels = snr[:, [1, 3]]
    assert torch.equal(labels[:, 0], labels[:, 1])
    assert set(labels.unique().tolist()) == {0.0, math.inf}
    error = math.sqrt(UNLABELLED_SHARE * (1 - UNLABELLED_SHARE) / NUM)
    assert abs(float((labels[:, 0] == 0).double().mean()) - UNLABELLED_SHARE) < 5.5 * error


def test_both_sides_of_a_sequence_know_its_labels_or_neither_does():
    tokens = torch.tensor([[LABEL, 3, LABEL + 1]]).repeat(200, 1)
    model = Watched()
    law = LeftToRight(TokenLogNormal(), share=0.5)
    cross_entropy(model, tokens, law, generator(0), LABEL)
    left, right = model.snr, model.right_snr
    assert torch.equal(left[:, [0, 2]], right[:, [0, 2]])
    assert set(left[:, [0, 2]].unique().tolist()) == {0.0, math.inf}
    assert int((left[:, 1] != right[:, 1]).sum()) == 100


def test_where_there_are_no_classes_every_token_follows_the_law():
    tokens = torch.tensor([[0, LABEL, 3, LABEL + 1]]).repeat(8, 1)
    law = TokenLogNormal().draw(8, 4, generator(0))
    assert torch.equal(shown(tokens, 0), law)
    model = Watched()
    cross_entropy(model, tokens, TokenLogNormal(), generator(0))
    assert torch.equal(model.snr, law)
