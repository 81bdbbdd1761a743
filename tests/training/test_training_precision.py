"""In every precision the transformer's products, and only these, are in the requested type."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode
from waits import Waits

from stochloc.core import LearnedCodebook, SimplexCodebook, observe
from stochloc.nn import LocalizationModel, ModelConfig
from stochloc.tasks.hardware import Hardware
from stochloc.training.checkpoint import Checkpoint
from stochloc.training.ema import AveragedWeights
from stochloc.training.loop import train
from stochloc.training.objective import cross_entropy
from stochloc.training.recipes import Recipe, TrainingConfig
from stochloc.training.texts import Texts
from stochloc.training.trainer import Trainer

pytestmark = pytest.mark.filterwarnings("ignore:.*barrier.*", "ignore:.*not a DDP.*")
TYPES = {
    "32-true": torch.float32,
    "bf16-mixed": torch.bfloat16,
    "16-mixed": torch.float16,
    "bf16-true": torch.bfloat16,
}
CONFIGS = {
    "simplex": ModelConfig(5, width=16, depth=2, heads=2, beta=1.0, neighbour_logit=8.0),
    "learned": ModelConfig(5, 16, 2, 2, code_dimension=3, mask_slot=True),
}
DIMENSION = 3


class Products(TorchDispatchMode):
    """Notes the types of the factors of all products of matrices, attention's included."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in ("mm", "bmm", "addmm", "baddbmm") or "attention" in name:
            factors = [a for a in args if isinstance(a, torch.Tensor) and a.is_floating_point()]
            of_codes = any(f.dim() == 2 and DIMENSION in f.shape for f in factors)
            self.seen.append((name, of_codes, {f.dtype for f in factors}))
        return func(*args, **(kwargs or {}))


def texts():
    rng = np.random.default_rng(0)
    return Texts(rng.integers(0, 5, 400), rng.integers(0, 5, 100), lambda model: "a sample")


def trainer(folder, precision, name="simplex", num_steps=4):
    folder.mkdir(exist_ok=True)
    training = TrainingConfig(
        length=8, batch_size=4, num_steps=num_steps, warmup_steps=2, eval_every=2,
        eval_sequences=4, checkpoint_every=1, log_every=1, learning_rate=1e-2,
    )  # fmt: skip
    recipe = Recipe("test", CONFIGS[name], training)
    return Trainer(Hardware("cpu", precision=precision).launch(), recipe, texts(), folder)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("precision", TYPES)
def test_every_product_of_an_update_is_in_the_type_asked_for_and_evidence_in_float32(
    tmp_path, precision, name
):
    """Converter, four linear maps and two attention products a block, head; forth and back."""
    work = trainer(tmp_path, precision, name)
    with Products() as products:
        work.update()
    learned = [types for _, of_codes, types in products.seen if not of_codes]
    assert len(learned) >= 3 * (1 + 2 * 4 + 1)
    assert all(types == {TYPES[precision]} for types in learned), products.seen
    evidence = [types for _, of_codes, types in products.seen if of_codes]
    assert bool(evidence) == (name == "learned")
    assert all(types == {torch.float32} for types in evidence)


@pytest.mark.bulk
@pytest.mark.parametrize("precision", TYPES)
def test_nothing_in_an_update_waits_for_the_device_whatever_the_precision(tmp_path, precision):
    """Nor does the scaler of losses: the optimizer's one kernel skips the steps that it rejects."""
    work = trainer(tmp_path, precision)
    assert work.optimizer.optimizer.defaults["fused"]
    work.update()
    with Waits() as waits:
        work.update()
    assert waits.seen == []
    with Waits() as waits:
        work.check()
    assert waits.seen == ["_local_scalar_dense"]


@pytest.mark.parametrize("precision", TYPES)
def test_the_held_out_bound_is_computed_in_float32_whatever_training_is(tmp_path, precision):
    work = trainer(tmp_path, precision)
    work.update()
    with Products() as products:
        work.evaluate()
    assert products.seen
    assert {dtype for _, _, types in products.seen for dtype in types} == {torch.float32}


@pytest.mark.bulk
def test_each_precision_trains_a_model_of_its_own_near_that_of_float32(tmp_path):
    models, bounds = {}, {}
    for precision in TYPES:
        work = trainer(tmp_path / precision, precision, num_steps=30)
        train(work)
        assert work.best is not None
        models[precision], bounds[precision] = (
            load_file(tmp_path / precision / "checkpoint.safetensors"),
            work.best.valid_bits_per_token,
        )
    for precision, model in models.items():
        assert {tensor.dtype for name, tensor in model.items() if "average" in name} == {
            torch.float32
        }
        kept = TYPES[precision] if precision == "bf16-true" else torch.float32
        assert model["model.head"].dtype == model["optimizer.head.exp_avg"].dtype == kept
        assert bounds[precision] == pytest.approx(bounds["32-true"], abs=0.03)
    names = list(models)
    for i, one in enumerate(names):
        for other in names[:i]:
            assert not torch.equal(models[one]["average.head"], models[other]["average.head"])


@pytest.mark.parametrize("precision", TYPES)
def test_a_run_cut_off_in_any_precision_resumes_to_the_same_bits(tmp_path, precision):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(trainer(whole, precision))
    stopped = trainer(cut, precision)
    for _ in range(3):
        stopped.update()
    stopped.save()
    checkpoint = Checkpoint.read(cut)
    assert checkpoint is not None
    parts = stopped.recipe, texts(), cut, checkpoint
    train(Trainer.resumed(Hardware("cpu", precision=precision).launch(), *parts))
    one, other = (load_file(folder / "checkpoint.safetensors") for folder in (whole, cut))
    for name in one:
        assert torch.equal(one[name], other[name]), name


def test_the_average_of_bfloat16_weights_moves_by_steps_below_the_spacing_of_bfloat16():
    """A thousandth of the way to 2, a thousand times: 1 + (1 - 0.999^n); bfloat16 would stay at 1.

    The warm-up of the decay is over from the start, as 9,000 updates have been done.
    """
    module = torch.nn.Linear(3, 2, dtype=torch.bfloat16)
    torch.nn.init.ones_(module.weight)
    average = AveragedWeights(module, 0.999)
    torch.nn.init.constant_(module.weight, 2.0)
    for _ in range(1000):
        average.update(9000)
    expected = 2 - 0.999**1000
    torch.testing.assert_close(average.averages[0], torch.full((2, 3), expected), atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_the_pieces_of_an_average_add_up_to_it_exactly_and_the_weights_come_back(dtype):
    torch.manual_seed(0)
    module = torch.nn.Linear(30, 20, dtype=dtype)
    average = AveragedWeights(module, 0.999)
    average.averages = [a + 0.1 * torch.rand_like(a) for a in average.averages]
    before, kept = [p.clone() for p in module.parameters()], [a.clone() for a in average.averages]
    copy = AveragedWeights(module, 0.999)
    copy.clear()
    for _ in average.pieces():
        copy.add_piece()
    # float16 has no exponents for the last piece of small numbers.
    slack = 6e-8 if dtype == torch.float16 else 0.0
    for found, expected in zip(copy.averages, kept, strict=True):
        torch.testing.assert_close(found, expected, atol=slack, rtol=0)
    with average.in_place():
        assert all(
            torch.equal(p, a.to(dtype)) for p, a in zip(module.parameters(), kept, strict=True)
        )
    assert all(torch.equal(p, b) for p, b in zip(module.parameters(), before, strict=True))
    assert all(torch.equal(a, k) for a, k in zip(average.averages, kept, strict=True))


@pytest.mark.parametrize("codebook", [SimplexCodebook(4), LearnedCodebook(4, 3)])
def test_codes_are_unit_vectors_and_states_float32_in_a_model_kept_in_bfloat16(codebook):
    codebook = codebook.to(torch.bfloat16)
    tokens = torch.tensor([[0, 1, 2, 3]])
    codes = codebook.encode(tokens)
    assert codes.dtype == torch.float32
    torch.testing.assert_close(codes.norm(dim=-1), torch.ones(1, 4), atol=1e-6, rtol=0)
    state = observe(codebook, tokens, torch.full((1, 4), 1e6), torch.Generator().manual_seed(0))
    assert state.z.dtype == state.snr.dtype == torch.float32


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed", "bf16-true"])
@pytest.mark.parametrize("snr", [0.0, 1.0, 1e6])
def test_losses_in_half_precision_are_those_of_float32_up_to_the_rounding_of_the_network(
    tmp_path, precision, snr
):
    """At γ = 1e6 evidence of a million nats must not be rounded: it would be off by thousands."""

    class Law:
        def draw(self, batch, length, generator):
            return torch.full((batch, length), snr)

    losses = []
    for kind in ("32-true", precision):
        work = trainer(tmp_path / kind, kind)
        with torch.no_grad(), work.fabric.autocast():
            work.model.head.copy_(torch.randn(5, 16, generator=torch.Generator().manual_seed(1)))
            tokens = torch.arange(32).view(4, 8) % 5
            generator = torch.Generator().manual_seed(2)
            losses.append(float(cross_entropy(work.wrapped, tokens, Law(), generator)))
    assert losses[1] == pytest.approx(losses[0], abs=0.1, rel=0.05)
    if snr == 1e6:
        assert losses == [0.0, 0.0]


def test_a_wrapped_module_receives_the_same_inputs_as_an_unwrapped_one():
    """Fabric's plugins round inputs to the half type: γ above 65,504 would be ∞ in float16."""
    snr = torch.tensor([[1e6, 0.1234567]])
    for precision in TYPES:
        plugin = Hardware("cpu", precision=precision).launch().strategy.precision
        for convert in (plugin.convert_input, plugin.convert_output):
            (found,) = convert((snr,))
            assert torch.equal(found, snr)


def test_a_plain_fabric_in_mixed_precision_trains_in_it_too(tmp_path):
    """What enters autocast is the loop, not the plugin."""
    work = trainer(tmp_path, "32-true")
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    work = Trainer(fabric, work.recipe, texts(), Path(tmp_path))
    with Products() as products:
        loss = work.update()
    assert {dtype for _, _, types in products.seen for dtype in types} == {torch.bfloat16}
    assert math.isfinite(float(loss))
    assert isinstance(work.model, LocalizationModel)
