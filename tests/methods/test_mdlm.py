"""MDLM asks its network again only when something was revealed; the controls of our recipe."""

import torch
from methods.oracles import MaskOracle
from methods.worlds import LENGTH, TINY, VOCABULARY, every_sequence, generator

from stochloc.methods import METHODS, Frame
from stochloc.methods.mdlm import Mdlm


def test_the_sampler_asks_once_a_revealed_token_however_many_steps():
    calls = [
        Mdlm(MaskOracle(), VOCABULARY).sample(1, LENGTH, 200, generator(seed)).denoiser_calls
        for seed in range(20)
    ]
    # At the start and after each of three tokens; two seldom fall into the same of 200 steps.
    assert max(calls) == LENGTH + 1
    assert min(calls) >= LENGTH


def test_with_our_prior_the_untrained_law_of_a_mask_is_that_of_single_tokens():
    counts = torch.tensor([60, 30, 7])
    method = METHODS["mdlm-prior"](Frame(counts, LENGTH, TINY))
    tokens = every_sequence()
    nats = method.masked_nats(tokens, torch.ones_like(tokens).bool())
    expected = -((counts + 1) / (counts + 1).sum()).log()[tokens]
    torch.testing.assert_close(nats, expected)
