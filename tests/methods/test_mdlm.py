"""MDLM's cached sampler, and masked diffusion with the prior of our recipe."""

import torch
from methods.oracles import MaskOracle
from methods.worlds import LENGTH, TINY, VOCABULARY, every_sequence, generator

from stochloc.methods import METHODS, Frame
from stochloc.methods.mdlm import Mdlm


def test_the_sampler_makes_at_most_one_call_per_revealed_token_for_any_number_of_steps():
    calls = [
        Mdlm(MaskOracle(), VOCABULARY).sample(1, LENGTH, 200, generator(seed)).denoiser_calls
        for seed in range(20)
    ]
    # One at the start and one after each of three tokens; two rarely share one of 200 steps.
    assert max(calls) == LENGTH + 1
    assert min(calls) >= LENGTH


def test_with_our_prior_the_untrained_distribution_of_a_masked_token_is_the_unigram():
    counts = torch.tensor([60, 30, 7])
    method = METHODS["mdlm-prior"](Frame(counts, LENGTH, TINY))
    tokens = every_sequence()
    nats = method.masked_nats(tokens, torch.ones_like(tokens).bool())
    expected = -((counts + 1) / (counts + 1).sum()).log()[tokens]
    torch.testing.assert_close(nats, expected)
