"""However an update is computed, the weights after it are the same."""

from contextlib import ExitStack
from itertools import product

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch.autograd.graph import saved_tensors_hooks

from stochloc.data.sequences import Sequences
from stochloc.nn import LocalizationModel, ModelConfig
from stochloc.nn.backbones import ARCHITECTURES, Backbone, leaves_out
from stochloc.nn.backbones.encoder import rotary_angles
from stochloc.training.choices import NAMED_LAWS
from stochloc.training.ema import AveragedWeights
from stochloc.training.execution import Execution, blocks_of
from stochloc.training.objective import Share, cross_entropy, cross_entropy_in_parts, shown
from stochloc.training.optimizers import make_optimizer
from stochloc.training.recipes import Recipe, TrainingConfig
from stochloc.training.snr import SidedSnrLaw
from stochloc.training.texts import SequenceTexts, Texts
from stochloc.training.trainer import Trainer
from stochloc.training.update import OneProcess, Updates
from stochloc.training.windows import SeededWindows

pytestmark = pytest.mark.bulk

CPU = torch.device("cpu")
LABEL, BOUNDARY = 6, 5
# One law of each architecture at once, the others with the slow tests.
QUICK = {"two-sided": "left-to-right", "mostly-left": "endpoints", "encoder": "endpoints",
         "dit": "masks"}  # fmt: skip
CASES = [
    pytest.param(architecture, law, marks=[] if QUICK[architecture] == law else pytest.mark.slow)
    for architecture in ARCHITECTURES
    for law in NAMED_LAWS
    if leaves_out(architecture) or not isinstance(NAMED_LAWS[law], SidedSnrLaw)
]


def windows(rows, length, generator):
    return torch.randint(5, (rows, length), generator=generator)


def labelled(rows, length, generator):
    drawn = windows(rows, length, generator)
    drawn[:, 0] = LABEL
    return drawn


def sequences(rows, length, generator):
    """Rows of other numbers than windows would be, with boundaries and places without a token."""
    drawn = windows(rows - 1, length, generator)
    ends = torch.randint(2, length, (rows - 1,), generator=generator).sort(descending=True).values
    drawn[:, 0] = BOUNDARY
    drawn.scatter_(1, ends[:, None], BOUNDARY)
    return drawn.masked_fill(torch.arange(length) > ends[:, None], -1)


DRAWS = {"windows": (windows, 0, None), "labels": (labelled, LABEL, None),
         "sequences": (sequences, 0, BOUNDARY)}  # fmt: skip


def trained(config, law, draw, num_parts, num_updates=5, num_processes=1):
    """Weights after some updates in float64, computed in parts; 0 for the batch as a whole.

    Several processes are played by one, which averages what each would compute.
    """
    draw, first_label, boundary = DRAWS[draw]
    torch.manual_seed(0)
    model = LocalizationModel(config).double()
    # Behind a head of zeros gradients begin as rounding, of which AdamW makes steps.
    torch.nn.init.normal_(model.head)
    training = TrainingConfig(length=6, batch_size=6, num_steps=20, warmup_steps=1)

    def parts(tokens, noise):
        drawn = (tokens, NAMED_LAWS[law], noise, first_label, boundary)
        if not num_parts:
            return [lambda: cross_entropy(model, *drawn)]
        batch, state = shown(*drawn), noise.get_state()
        each = (model, model.is_target, batch)
        return [
            lambda own=own: own() / num_processes
            for n in range(num_processes)
            for own in cross_entropy_in_parts(
                *each, torch.Generator().set_state(state), num_parts, Share(n, num_processes)
            )
        ]

    optimizer, average = make_optimizer(model, training), AveragedWeights(model, 0.9)
    given = SeededWindows(draw, training)
    updates = Updates(OneProcess(CPU), model, optimizer, average, training, given, parts)
    losses = [updates.update(step) for step in range(num_updates)]
    return {"losses": torch.stack(losses), **dict(model.named_parameters())}


@pytest.mark.bulk
@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize(("architecture", "law"), CASES)
def test_five_updates_in_parts_end_at_the_weights_of_whole_batches(architecture, law, draw):
    config = ModelConfig(7, 8, 2, 2, architecture=architecture, given_tokens=2)
    whole = trained(config, law, draw, 0)
    assert whole["losses"].unique().numel() == 5
    for num_parts in (1, 2, 4):
        for name, value in trained(config, law, draw, num_parts).items():
            torch.testing.assert_close(value, whole[name], atol=1e-9, rtol=1e-9, msg=name)


@pytest.mark.bulk
@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize(("architecture", "law"), CASES)
def test_five_updates_of_several_processes_end_at_the_weights_of_one(architecture, law, draw):
    """Also where a process has no row of a batch of few sequences, and in parts."""
    config = ModelConfig(7, 8, 2, 2, architecture=architecture, given_tokens=2)
    whole = trained(config, law, draw, 0)
    for num_processes, num_parts in ((2, 1), (3, 2), (9, 2)):
        shared = trained(config, law, draw, num_parts, num_processes=num_processes)
        for name, value in shared.items():
            torch.testing.assert_close(value, whole[name], atol=1e-9, rtol=1e-9, msg=name)


@pytest.mark.bulk
def test_parts_of_a_large_vocabulary_with_learned_codes_add_up_too(monkeypatch):
    monkeypatch.setattr("stochloc.nn.vocabulary.SMALL", 3)
    config = ModelConfig(7, 8, 2, 2, code_dimension=3, given_tokens=2, architecture="two-sided")
    whole = trained(config, "left-to-right", "sequences", 0)
    for name, value in trained(config, "left-to-right", "sequences", 3).items():
        torch.testing.assert_close(value, whole[name], atol=1e-9, rtol=1e-9, msg=name)


def test_more_parts_than_rows_are_refused_for_windows_and_are_as_many_as_rows_for_sequences():
    execution = Execution(accumulate=5)
    execution.check_rows(5)
    with pytest.raises(ValueError, match="lower --accumulate or raise --batch-size"):
        execution.check_rows(4)
    with pytest.raises(ValueError, match="at least one part"):
        Execution(accumulate=0)
    model = LocalizationModel(ModelConfig(7, 8, 1, 2))
    batch = shown(windows(3, 6, None), NAMED_LAWS["token"], torch.Generator())
    parts = cross_entropy_in_parts(model, model.is_target, batch, torch.Generator(), 5)
    assert len(parts) == 3


def trainer(folder, execution, architecture="two-sided", is_sequences=False, **more):
    """A run of a tiny model, and the same for every execution."""
    torch.manual_seed(0)
    config = ModelConfig(6, 16, 4, 2, architecture=architecture, given_tokens=int(is_sequences))
    law = NAMED_LAWS["left-to-right" if leaves_out(architecture) else "endpoints"]
    training = TrainingConfig(
        length=16, batch_size=4, num_steps=9, warmup_steps=1, law=law, eval_every=99, **more
    )
    tokens = np.random.default_rng(0).integers(0, 5, 600)
    texts = Texts(tokens, tokens, lambda model: "")
    if is_sequences:
        lengths = np.random.default_rng(1).integers(2, 14, 40)
        hashes = np.arange(40).astype(np.uint64)
        own = Sequences(tokens, lengths.cumsum() - lengths, lengths, hashes, 5)
        texts = SequenceTexts(own, own, lambda model: "")
    fabric = Fabric(accelerator="cpu", devices=1)
    return Trainer(fabric, Recipe("test", config, training), texts, folder, execution)


def kept_bytes(work):
    """The bytes that a forward pass keeps for the gradient, each tensor once, without weights."""
    seen = {parameter.data_ptr() for parameter in work.model.parameters()}
    total = 0

    def note(tensor):
        nonlocal total
        if tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            total += tensor.numel() * tensor.element_size()
        return tensor

    noise = torch.Generator().manual_seed(0)
    with ExitStack() as stack:
        stack.enter_context(saved_tensors_hooks(note, lambda tensor: tensor))
        kept = [part() for part in work.updates.parts(work.windows.of(0), noise)][:1]
    assert kept
    return total


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_activations_computed_again_give_the_same_bits_and_are_kept_nowhere(tmp_path, architecture):
    plain, again = (
        trainer(tmp_path, Execution(checkpoint_activations=on), architecture)
        for on in (False, True)
    )
    assert kept_bytes(again) < 0.5 * kept_bytes(plain)
    for _ in range(3):
        assert torch.equal(plain.update(), again.update())
    for one, same in zip(plain.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, same)
    assert plain.model.state_dict().keys() == again.model.state_dict().keys()


@pytest.mark.bulk
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_block_is_one_graph_of_real_numbers_with_absent_places_and_without(architecture):
    """Complex products would leave the compiled code for torch's own kernels."""
    network = ARCHITECTURES[architecture](Backbone(16, 4, 2))
    inputs = torch.randn(2, 6, 16), rotary_angles(6, 8, 100.0, CPU)
    blocks = blocks_of(network)
    assert len(blocks) == 4
    for block, present in product((blocks[0], blocks[-1]), (None, torch.ones(2, 6).bool())):
        torch._dynamo.reset()
        explained = torch._dynamo.explain(block.forward)(*inputs, present)
        assert (explained.graph_count, explained.graph_break_count) == (1, 0), explained
        operations = {str(node.target) for graph in explained.graphs for node in graph.graph.nodes}
        assert any("scaled_dot_product" in name for name in operations)
        assert not [name for name in operations if "complex" in name or "polar" in name]


@pytest.mark.bulk
@pytest.mark.filterwarnings("ignore")
def test_sequences_of_all_lengths_run_through_one_graph(tmp_path, monkeypatch):
    """Captured as for compiling, and then run by torch as it is."""
    real = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda forward, **how: real(forward, backend="eager", **how)
    )
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    work = trainer(tmp_path, Execution(2, compile=True), "two-sided", is_sequences=True)
    assert len({work.windows.of(n).shape for n in range(8)}) > 3
    for _ in range(8):
        work.update()
    seen = torch._dynamo.utils.counters
    assert seen["stats"]["unique_graphs"] == 1
    assert not seen["graph_break"]


@pytest.fixture(scope="module")
def compiled_code(tmp_path_factory):
    """A folder for compiled code of its own: torch's may hold what a killed process left."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("compiled")))
        yield


def test_an_error_of_the_compiler_is_one_sentence_and_others_are_left_as_they_are():
    error = torch._dynamo.exc.TorchRuntimeError("ImportError: file too short\n\nmore")
    explained = Execution(compile=True).explained(error)
    assert isinstance(explained, ValueError)
    assert "(ImportError: file too short): train without --compile" in str(explained)
    assert Execution().explained(error) is None
    assert Execution(compile=True).explained(RuntimeError("out of memory")) is None


@pytest.mark.slow
@pytest.mark.bulk
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("compiled_code")
@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("is_sequences", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_compiled_updates_are_plain_ones_to_rounding_and_leave_the_names_of_weights(
    tmp_path, architecture, is_sequences, again
):
    torch._dynamo.reset()
    executions = Execution(), Execution(2, checkpoint_activations=again, compile=True)
    plain, compiled = (trainer(tmp_path, e, architecture, is_sequences) for e in executions)
    torch._dynamo.utils.counters.clear()
    for _ in range(6):
        torch.testing.assert_close(plain.update(), compiled.update(), atol=1e-5, rtol=1e-5)
    seen = torch._dynamo.utils.counters
    # Of all blocks, whatever the depth: with and without absent places, and for a single row.
    assert 1 <= seen["stats"]["unique_graphs"] <= 4
    assert not seen["graph_break"]
    state = compiled.model.state_dict()
    assert state.keys() == LocalizationModel(plain.recipe.model).state_dict().keys()
    for name, value in plain.model.state_dict().items():
        torch.testing.assert_close(state[name], value, atol=2e-4, rtol=2e-3, msg=name)
