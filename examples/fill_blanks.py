"""Train a small model on sentences of one's own, and fill blanks, the most probable answer first.

    python examples/fill_blanks.py

Takes less than a minute on two cores. The sentences are made of a few subjects, verbs and objects.
"""

import random
from pathlib import Path
from tempfile import TemporaryDirectory

import stochloc
from stochloc.tasks.data_choice import DataChoice
from stochloc.tasks.hardware import Hardware
from stochloc.tasks.runs import Run
from stochloc.tasks.train import start_run

WHO = ("the cat", "the dog", "a bird", "the old man", "my sister", "the king", "the queen")
DOES = ("sees", "likes", "chases", "finds", "loves", "hears", "calls", "follows")
WHAT = ("the moon", "a red hat", "the river", "the small house", "a green tree", "the sea")
SIZE = {"width": 64, "depth": 1, "heads": 2, "length": 64, "batch_size": 16}
TRAINING = {"learning_rate": 4e-3, "warmup_steps": 20, "ema_decay": 0.98, "eval_every": 1000}
NUM_UPDATES = 250


def sentences(number: int, seed: int = 0) -> str:
    """Return sentences, one a line."""
    draw = random.Random(seed).choice
    return "".join(f"{draw(WHO)} {draw(DOES)} {draw(WHAT)}.\n" for _ in range(number))


def trained(folder: Path, num_updates: int = NUM_UPDATES) -> Run:
    """Train on 3,000 sentences, and return the model with its tokenizer."""
    text = folder / "sentences.txt"
    text.write_text(sentences(3000), encoding="utf-8")
    changes = {**SIZE, **TRAINING, "num_steps": num_updates}
    hardware = Hardware(accelerator="cpu")
    start_run(folder / "run", DataChoice(str(text)), None, "tiny", changes, hardware)
    return stochloc.open_run(folder / "run")


def main() -> None:
    """Train, and print what fills the blanks."""
    with TemporaryDirectory() as folder:
        run = trained(Path(folder))
        for template in ("the king ____ the river.", "my ______ follows the sea."):
            for answer in stochloc.infill(run, template).answers[:3]:
                print(f"{answer.nats:6.2f} nats  {answer.text}")


if __name__ == "__main__":
    main()
