"""Every command reports as many denoiser calls as its model receives."""

import pytest

from stochloc.nn import LocalizationModel

LINES = "the dog\nthe fox runs\na lazy cow\n"
COMMANDS = {
    "eval": ("eval", "RUN", "--sequences", 3, "--steps", 5),
    "eval, line integral": ("eval", "RUN", "--sequences", 3, "--steps", 5, "--continuous"),
    "eval, curvature": ("eval", "RUN", "--sequences", 3, "--steps", 5, "--policy", "curvature"),
    "eval, tolerance": ("eval", "RUN", "--sequences", 3, "--policy", "tolerance:0.3"),
    "sample": ("sample", "RUN", "--n", 3, "--steps", 5),
    "sample, euler": ("sample", "RUN", "--n", 2, "--steps", 5, "--path", "hybrid",
                      "--transition", "euler"),
    "sample, curvature": ("sample", "RUN", "--n", 2, "--steps", 4, "--policy", "curvature:0.3"),
    "sample, remasking": ("sample", "RUN", "--n", 2, "--steps", 6, "--policy", "remdm-loop"),
    "sample, correctors": ("sample", "RUN", "--n", 2, "--steps", 4, "--corrector-rounds", 2),
    "sample, guidance": ("sample", "RUN", "--n", 2, "--steps", 4, "--prompt", "the ",
                         "--guidance", 2),
    "infill": ("infill", "RUN", "the _uick br_wn", "--draws", 5, "--steps", 2),
    "infill, lengths": ("infill", "RUN", "the {1-2}ck", "--draws", 5),
    "score": ("score", "RUN", "LINES", "--steps", 4),
    "score, draws": ("score", "RUN", "LINES", "--steps", 4, "--draws", 3),
    "correct": ("correct", "RUN", "the quikc brown fox jumps", "--snr", 3, "--threshold", 0.2),
    "correct, walk": ("correct", "RUN", "the quikc brown", "--snr", 3, "--threshold", 0.2,
                      "--walk"),
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_reported_calls_are_the_calls_that_the_model_receives(
    name, trained, tmp_path, call_json, monkeypatch
):
    (tmp_path / "lines.txt").write_text(LINES, encoding="utf-8")
    places = {"RUN": trained / "run", "LINES": tmp_path / "lines.txt"}
    calls, forward = [], LocalizationModel.forward

    def counted(model, state):
        calls.append(len(state.snr))
        return forward(model, state)

    monkeypatch.setattr(LocalizationModel, "forward", counted)
    result = call_json(*(places.get(word, word) for word in COMMANDS[name]))
    assert result["denoiser_calls"] == len(calls) > 0
