"""What places mean: the coordinates that a line describes, and that every network is given."""

import json
from collections import Counter

import pytest
import torch

from stochloc.core import State, observe
from stochloc.nn import LocalizationModel, ModelConfig
from stochloc.nn.backbones import ARCHITECTURES
from stochloc.nn.place_embedding import PlaceEmbedding
from stochloc.nn.places import MOST_PLACES, as_table, coordinates, follows_the_text

V, LENGTH = 6, 8
# Texts of six tokens between two boundaries, in a grid of two rows.
GRID = "grid:2x3"


def generator(seed):
    return torch.Generator().manual_seed(seed)


def made(name, positions=GRID, given_tokens=1):
    torch.manual_seed(0)
    config = ModelConfig(
        V, 16, 4, 2, architecture=name, positions=positions, given_tokens=given_tokens
    )
    model = LocalizationModel(config).double()
    torch.nn.init.normal_(model.head)
    return model


def noisy(model):
    tokens = torch.randint(0, V - 1, (2, LENGTH), generator=generator(1))
    tokens[:, [0, -1]] = V - 1
    snr = torch.full(tokens.shape, 2.0, dtype=torch.float64)
    snr[:, [0, -1]] = torch.inf
    return tokens, observe(model.codebook, tokens, snr, generator(2))


def context(model, state):
    """Logits of every token without its own evidence, which may be differentiated."""
    readout = model.readout(state)
    evidence = model.codebook.evidence(state.z)
    return (readout.logits - evidence)[..., : V - 1]


def test_a_sudokus_rows_columns_and_boxes_have_nine_cells_each_of_which_no_two_are_alike():
    cells = coordinates("grid:9x9:3x3")
    assert len(cells) == len(set(cells)) == 81
    for coordinate in range(3):
        count = Counter(cell[coordinate] for cell in cells)
        assert count == dict.fromkeys(range(9), 9)
    assert cells[0] == (0, 0, 0)
    assert cells[9 * 4 + 7] == (4, 7, 5)
    # A box and a row of it share three cells.
    assert sum(row == 4 and box == 5 for row, _, box in cells) == 3


def test_boxes_may_be_wider_than_high():
    cells = coordinates("grid:4x6:2x3")
    assert [box for _, _, box in cells] == [0, 0, 0, 1, 1, 1] * 2 + [2, 2, 2, 3, 3, 3] * 2


@pytest.mark.parametrize(("line", "table"), [
    ("rotary", ()),
    ("learned:3", ((0,), (1,), (2,))),
    ("grid:2x2", ((0, 0), (0, 1), (1, 0), (1, 1))),
    ("table:5,0;7,1", ((5, 0), (7, 1))),
])  # fmt: skip
def test_every_line_describes_its_table_and_every_table_has_a_line(line, table):
    assert coordinates(line) == table
    if table:
        assert coordinates(as_table(table)) == table
    assert follows_the_text(line) == line.startswith(("rotary", "learned"))


@pytest.mark.parametrize("line", [
    "", "learned", "learned:0", f"learned:{MOST_PLACES + 1}", "learned:-1", "grid:9", "grid:0x9",
    "grid:9x9:2x3", "grid:9x9:0x3", "grid:9x9:3", "grid:9999x9999", "table:", "table:1,2;3",
    "table:1.5", "table:-1", "table:" + ",".join("0" * 65), "spiral", "grid:９x9",
])  # fmt: skip
def test_a_line_that_describes_no_places_is_refused(line):
    with pytest.raises(ValueError, match=r"positions|Boxes|boxes|places|Row|coordinates"):
        ModelConfig(V, positions=line)


@pytest.mark.parametrize("table", [[[0], [-1]], [[10**6]], [[]], [], [[0], [1, 2]]], ids=str)
def test_what_is_no_table_of_coordinates_is_refused(table):
    with pytest.raises(ValueError, match=r"whole numbers from 0|at least|places|Row 2"):
        as_table(table)


@pytest.mark.parametrize(("given_tokens", "before", "after"), [(0, 0, 0), (1, 1, 1), (3, 2, 1)])
def test_text_alone_has_coordinates_and_boundaries_and_labels_have_none(
    given_tokens, before, after
):
    config = ModelConfig(V, positions="learned:4", given_tokens=given_tokens)
    assert (config.num_before, config.num_after) == (before, after)
    embedding = PlaceEmbedding(config.places, 8, before, after)
    length = before + 4 + after
    places = embedding(length)
    assert places.shape == (1, length, 8)
    assert torch.equal(places[0, before : before + 4], embedding.vectors)
    assert (places[0, :before] == 0).all()
    assert (places[0, before + 4 :] == 0).all()
    # In a batch the text of a shorter sequence ends before its own boundary.
    present = torch.arange(length) < torch.tensor([length, length - 2])[:, None]
    both = embedding(length, present)
    assert torch.equal(both[0], places[0])
    assert torch.equal(both[1, : length - 2], embedding(length - 2)[0])


def test_values_that_do_not_occur_have_no_vectors_and_the_same_number_in_two_coordinates_has_two():
    embedding = PlaceEmbedding(coordinates("table:7,999999;0,7;7,7"), 4, 0, 0)
    assert embedding.vectors.shape == (4, 4)
    zero, seven, other_seven, large = embedding.vectors
    torch.testing.assert_close(
        embedding(3)[0], torch.stack([seven + large, zero + other_seven, seven + other_seven])
    )


def test_a_place_has_the_sum_of_the_vectors_of_its_coordinates_of_variance_one():
    torch.manual_seed(0)
    embedding = PlaceEmbedding(coordinates("grid:9x9:3x3"), 64, 0, 0)
    rows, columns, boxes = embedding.vectors.split(9)
    torch.testing.assert_close(embedding(81)[0, 9 * 4 + 7], rows[4] + columns[7] + boxes[5])
    # 27 vectors of 64 numbers: 5.5 relative errors of 1/√(2·1728) are exceeded less than 1e-7.
    assert abs(float(embedding.vectors.detach().std()) * 3**0.5 - 1) < 5.5 / (2 * 1728) ** 0.5


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_prediction_depends_on_the_coordinates_of_all_places_its_own_included(name):
    """The derivative of the prediction at place i by the vector of place j, which no other has."""
    model = made(name, "learned:6")
    _, state = noisy(model)
    tables = [e.vectors for e in (model.places, model.target_places) if e is not None]
    size = torch.zeros(LENGTH, 6)
    for i in range(LENGTH):
        total = context(model, state)[0, i].square().sum()
        for gradient in torch.autograd.grad(total, tables):
            size[i] += gradient.abs().sum(-1)
    assert (size > 1e-9).all()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_exchanging_the_coordinates_of_two_places_changes_every_prediction(name):
    straight, turned = made(name, "table:0;1;2;3;4;5"), made(name, "table:0;1;3;2;4;5")
    turned.load_state_dict(straight.state_dict())
    _, state = noisy(straight)
    difference = (context(straight, state) - context(turned, state)).abs().amax((0, 2))
    assert (difference > 1e-3).all()


@pytest.mark.parametrize("positions", ["learned:6", GRID])
def test_given_coordinates_a_network_that_leaves_a_place_out_still_never_sees_its_token(positions):
    for name in ARCHITECTURES:
        model = made(name, positions)
        if model.between is None:
            continue
        _, state = noisy(model)

        def total(z, model=model, state=state):
            return context(model, State(z, state.known, state.snr))[0].square().sum(-1)

        derivative = torch.autograd.functional.jacobian(total, state.z)[:, 0].abs().amax(-1)
        # The logits are a sum of context and evidence, so taking it off again leaves rounding.
        assert derivative.diagonal().max() < 1e-12
        assert derivative[2, 3] > 1e-6


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_vector_of_a_coordinate_receives_a_gradient(name):
    model = made(name, GRID)
    tokens, _ = noisy(model)
    snr = torch.where(tokens == V - 1, torch.inf, 1.0)
    model.token_nats(tokens, snr.double(), None, generator(3)).nats.sum().backward()
    for embedding in (model.places, model.target_places):
        if embedding is not None:
            assert embedding.vectors.grad is not None
            assert (embedding.vectors.grad.abs().sum(-1) > 0).all()
    assert (model.target_places is None) == (model.between is None)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_text_longer_than_its_places_is_refused_and_a_shorter_one_is_not(name):
    model = made(name, "learned:5")
    tokens, state = noisy(model)
    with pytest.raises(ValueError, match=r"up to 5 tokens, and a text has 6\."):
        model(state)
    with pytest.raises(ValueError, match="up to 5"):
        model.token_nats(tokens, torch.ones(tokens.shape).double(), None, generator(3))
    assert model(state.cropped(0, 6)).log_probs[:, 1:, : V - 1].isfinite().all()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_without_coordinates_nothing_is_drawn_kept_or_computed_for_them(name):
    model = made(name, "rotary")
    assert not any("places" in key for key in model.state_dict())
    torch.manual_seed(0)
    before = made(name, GRID)
    for key, value in model.state_dict().items():
        assert key == "head" or torch.equal(before.state_dict()[key], value), key


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_table_itself_is_kept_in_the_configuration_and_loads_as_it_was(name, tmp_path):
    model = made(name, as_table([[3, 1], [0, 0], [2, 1], [0, 1], [1, 1], [3, 0]])).float()
    model.save_pretrained(tmp_path)
    kept = json.loads((tmp_path / "config.json").read_text())
    assert kept["positions"] == "table:3,1;0,0;2,1;0,1;1,1;3,0"
    loaded = LocalizationModel.from_pretrained(tmp_path)
    _, state = noisy(model)
    assert torch.equal(loaded(state).log_probs, model(state).log_probs)
    del kept["positions"]
    assert ModelConfig(**kept).positions == "rotary"
