"""Another project's model, imported and fine-tuned, beside one trained from scratch.

A masked diffusion model (`methods.mdlm`) is trained on a text with the network of MDLM's public
layout, written in that layout and imported. It is then fine-tuned by one command, `train --from`
with learned codes and an early mask, in a tenth of its updates. The same network trained by our
recipe from new weights, for as many updates as both together, is what that is to be measured by.

    python benchmarks/fine_tuning.py --data FILE --out FOLDER [--steps 1000] [--width 64] [--smoke]

What has been trained is kept in FOLDER and not trained again. Printed are bits per character of
test text on the masked and on the diffusion path, with standard errors.
"""

import argparse
import json
import os
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save_file
from smoke import TEXT
from torch import Tensor, nn
from torch.nn import functional as F

from stochloc.cli import main as stochloc
from stochloc.core.standard_errors import ratio_stderr
from stochloc.data import Corpus, draw_windows, held_out_windows
from stochloc.methods.mdlm import Mdlm
from stochloc.nn import Backbone
from stochloc.nn.backbones.dit import DiffusionTransformer
from stochloc.tasks.data_choice import DataChoice
from stochloc.training.checkpoint import Progress
from stochloc.training.ema import AveragedWeights
from stochloc.training.optimizers import make_optimizer
from stochloc.training.recipes import TrainingConfig
from stochloc.training.update import OneProcess, Updates, as_one_part
from stochloc.training.windows import SeededWindows

# MDLM's positions: the usual rotations, and heads that know nothing of neighbours.
ROTARY_BASE, NEIGHBOUR_LOGIT = 10_000.0, 0.0
TOKENIZER = "text8"
NETWORK = "network.safetensors"


@dataclass(frozen=True)
class Size:
    """The model and its training.

    Attributes:
        width: Width of the network.
        depth: Number of its blocks.
        heads: Attention heads per block.
        training: How the masked diffusion model is trained.
        windows: Windows of test text in a bound.
        steps: Steps of the walk in a bound.
    """

    width: int
    depth: int
    heads: int
    training: TrainingConfig
    windows: int
    steps: int

    @property
    def backbone(self) -> Backbone:
        """The network's size, with MDLM's positions."""
        return Backbone(self.width, self.depth, self.heads, ROTARY_BASE, NEIGHBOUR_LOGIT)


class MaskReader(nn.Module):
    """MDLM's network: rows for the tokens and the mask, a DiT at a fixed time, logits of tokens."""

    def __init__(self, vocabulary_size: int, backbone: Backbone) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size + 1, backbone.width)
        self.transformer = DiffusionTransformer(backbone)
        self.head = nn.Parameter(torch.zeros(vocabulary_size, backbone.width))
        self.bias = nn.Parameter(torch.zeros(vocabulary_size))

    def forward(self, tokens: Tensor, time: Tensor | None = None) -> Tensor:
        """Return the logits of the tokens."""
        return F.linear(self.transformer(self.embedding(tokens)), self.head, self.bias)


def trained(corpus: Corpus, size: Size) -> tuple[Mdlm, AveragedWeights]:
    """Return a masked diffusion model, trained, and the average of its weights."""
    training, vocabulary = size.training, corpus.tokenizer.vocabulary_size
    torch.manual_seed(training.seed)
    method = Mdlm(MaskReader(vocabulary, size.backbone), vocabulary)
    average = AveragedWeights(method, training.ema_decay)

    def draw(rows: int, length: int, generator: torch.Generator) -> Tensor:
        return draw_windows(corpus.train, rows, length, generator)

    updates = Updates(
        OneProcess(torch.device("cpu"), half_products=True),
        method,
        make_optimizer(method, training, method.undecayed()),
        average,
        training,
        SeededWindows(draw, training),
        as_one_part(method.loss),
    )
    for step in range(training.num_steps):
        loss = float(updates.update(step))
        if step % 100 == 0:
            print(f"MDLM, update {step}: loss {loss:.3f}", flush=True)
    return method, average


def own_bound(method: Mdlm, windows: Tensor, num_samples: int) -> tuple[float, float]:
    """Return the method's own bound in bits per character, and its standard error."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        nats = method.bound(windows, num_samples, generator).values / torch.tensor(2.0).log()
    sizes = torch.full((len(windows),), windows.shape[1])
    return float(nats.sum() / sizes.sum()), float(ratio_stderr(nats, sizes))


def public_layout(network: MaskReader, heads: int, condition: int = 8) -> dict[str, Tensor]:
    """Return the tensors of a network in MDLM's layout.

    A modulation is the bias of a linear map of the time's embedding; its weights are 0.
    """
    own = network.state_dict()
    width, waves = own["embedding.weight"].shape[1], 2 * condition
    tensors = {
        "vocab_embed.embedding": own["embedding.weight"],
        "sigma_map.mlp.0.weight": torch.zeros(condition, waves),
        "sigma_map.mlp.0.bias": torch.zeros(condition),
        "sigma_map.mlp.2.weight": torch.zeros(condition, condition),
        "sigma_map.mlp.2.bias": torch.zeros(condition),
        "output_layer.norm_final.weight": own["transformer.norm.weight"],
        # The mask's own row, which nothing reads.
        "output_layer.linear.weight": F.pad(own["head"], (0, 0, 0, 1)),
        "output_layer.linear.bias": F.pad(own["bias"], (0, 1)),
        "output_layer.adaLN_modulation.weight": torch.zeros(2 * width, condition),
        "output_layer.adaLN_modulation.bias": own["transformer.modulation"],
    }
    for n, _ in enumerate(network.transformer.blocks):
        ours, theirs = f"transformer.blocks.{n}", f"blocks.{n}"
        tensors |= {
            f"{theirs}.norm1.weight": own[f"{ours}.attention_norm.weight"],
            f"{theirs}.attn_qkv.weight": _halved(own[f"{ours}.qkv.weight"], heads),
            f"{theirs}.attn_out.weight": own[f"{ours}.attention_out.weight"],
            f"{theirs}.norm2.weight": own[f"{ours}.mlp_norm.weight"],
            f"{theirs}.mlp.0.weight": own[f"{ours}.mlp_in.weight"],
            f"{theirs}.mlp.0.bias": own[f"{ours}.mlp_in.bias"],
            f"{theirs}.mlp.2.weight": own[f"{ours}.mlp_out.weight"],
            f"{theirs}.mlp.2.bias": own[f"{ours}.mlp_out.bias"],
            f"{theirs}.adaLN_modulation.weight": torch.zeros(6 * width, condition),
            f"{theirs}.adaLN_modulation.bias": own[f"{ours}.modulation"],
        }
    return {f"backbone.{name}": tensor.contiguous() for name, tensor in tensors.items()}


def _halved(qkv: Tensor, heads: int) -> Tensor:
    """Return rows of queries and keys with the pairs of a rotation half a head apart."""
    qk, v = qkv.unflatten(0, (3, -1)).split([2, 1])
    pairs = qk.unflatten(1, (heads, -1, 2))
    return torch.cat([pairs.transpose(2, 3).flatten(0, 3), v.flatten(0, 1)])


def write_checkpoint(network: MaskReader, size: Size, folder: Path) -> None:
    """Write a network in MDLM's layout: a file of tensors, and what they do not say."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = {
        "n_heads": size.heads,
        "model_length": size.training.length,
        "time_conditioning": False,
    }
    (folder / "config.json").write_text(json.dumps(facts), encoding="utf-8")
    # Last, since a folder with tensors counts as done.
    save_file(public_layout(network, size.heads), folder / "model.safetensors")


def make_checkpoints(corpus: Corpus, size: Size, out: Path) -> None:
    """Train and write the masked diffusion model, and one with new weights."""
    if (out / NETWORK).exists():
        return
    torch.manual_seed(size.training.seed + 1)
    fresh = MaskReader(corpus.tokenizer.vocabulary_size, size.backbone)
    write_checkpoint(fresh, size, out / "fresh")
    method, average = trained(corpus, size)
    with average.in_place():
        assert isinstance(method.network, MaskReader)
        write_checkpoint(method.network, size, out / "mdlm")
        save_file(method.network.state_dict(), out / NETWORK)


def own_figures(corpus: Corpus, size: Size, out: Path) -> str:
    """Return the bound of the masked diffusion model by its own code, on test text."""
    told = out / f"mdlm_{size.windows}_{size.steps}.txt"
    if not told.exists():
        vocabulary = corpus.tokenizer.vocabulary_size
        network = MaskReader(vocabulary, size.backbone)
        network.load_state_dict(load_file(out / NETWORK))
        windows = held_out_windows(corpus.test, size.training.length, size.windows)
        bits, stderr = own_bound(Mdlm(network, vocabulary), windows, size.steps)
        told.write_text(f"{bits:.3f} ± {stderr:.3f}", encoding="utf-8")
    return told.read_text(encoding="utf-8")


@dataclass(frozen=True)
class Bench:
    """Everything that is made, each by one command and once.

    Attributes:
        data: The text.
        out: Where to.
        size: The model and its training.
    """

    data: str
    out: Path
    size: Size

    def imported(self, checkpoint: str, name: str) -> None:
        """Make a run of a checkpoint, unless there is one."""
        if not (self.out / name).exists():
            self.give("import", "mdlm", self.out / checkpoint, "--out", self.out / name,
                      "--data", self.data, "--tokenizer", TOKENIZER)  # fmt: skip

    def fine_tune(self, parent: str, name: str, steps: int, rate: float, *more: object) -> None:
        """Train a run on from another one; one that was cut off goes on."""
        progress = Progress.read(self.out / name)
        if progress is not None and progress.step < steps:
            self.give("train", "--out", self.out / name, "--resume")
        if progress is None:
            self.give(
                "train", "--from", self.out / parent, "--data", self.data, "--out", self.out / name,
                "--steps", steps, "--learning-rate", rate,
                "--warmup-steps", min(100, 1 + steps // 10),
                "--batch-size", self.size.training.batch_size, "--eval-every", steps,
                "--precision", "bf16-mixed", "--accelerator", "cpu", *more,
            )  # fmt: skip

    def give(self, *words: object) -> None:
        """Show a command and obey it."""
        line = [str(word) for word in words]
        print("stochloc", *line, flush=True)
        stochloc(line)

    def bits(self, name: str, *walk: object) -> str:
        """Return a bound on test text by `stochloc eval`."""
        asked = (name, *map(str, walk), str(self.size.windows), str(self.size.steps))
        told = self.out / f"{'_'.join(asked).replace('--', '')}.json"
        if not told.exists():
            shown = StringIO()
            with redirect_stdout(shown):
                stochloc([
                    "eval", str(self.out / name), *map(str, walk), "--steps", str(self.size.steps),
                    "--sequences", str(self.size.windows), "--data", self.data, "--json",
                ])  # fmt: skip
            told.write_text(shown.getvalue(), encoding="utf-8")
        values = json.loads(told.read_text(encoding="utf-8"))
        return f"{values['bits_per_character']:.3f} ± {values['bits_per_character_stderr']:.3f}"

    def table(self) -> None:
        """Make what is missing, and print what it is worth."""
        corpus = DataChoice(self.data).load_text(TOKENIZER)
        make_checkpoints(corpus, self.size, self.out)
        self.imported("mdlm", "imported")
        self.imported("fresh", "new")
        steps = self.size.training.num_steps
        few, rate = max(1, steps // 10), self.size.training.learning_rate
        ours = ("--law", "endpoints", "--code-dimension", CODES, "--mask-lead", LEAD)
        self.fine_tune("imported", "fine", few, rate / 2, *ours)
        self.fine_tune("imported", "fine-law", few, rate / 2, "--law", "endpoints")
        self.fine_tune("new", "scratch", steps + few, rate, *ours)
        print("MDLM by its own code, masked:", own_figures(corpus, self.size, self.out))
        print("the same, imported, line integral:", self.bits("imported", "--continuous"))
        print("| | updates | masked | diffusion |\n|---|---|---|---|")
        for title, name, told in (
            ("MDLM, imported", "imported", f"{steps}"),
            ("fine-tuned by one command", "fine", f"{steps} + {few}"),
            ("the same with its own codes and mask", "fine-law", f"{steps} + {few}"),
            ("from scratch by our recipe", "scratch", f"{steps + few}"),
        ):
            row = [self.bits(name, "--path", path) for path in ("masked", "diffusion")]
            print(f"| {title} | {told} | {' | '.join(row)} |", flush=True)


FULL = TrainingConfig(length=64, batch_size=16, num_steps=1000, warmup_steps=100, ema_decay=0.999)
QUICK = TrainingConfig(length=16, batch_size=4, num_steps=10, warmup_steps=2)
# The successor papers' learned codes; a mask that keeps 95 % of the weight at zero SNR.
CODES, LEAD = 64, 3.0


def main() -> None:
    """Train what is missing, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", help="a text in the alphabet of text8")
    parser.add_argument("--out", type=Path, help="folder for what is trained")
    parser.add_argument("--steps", type=int, default=FULL.num_steps)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--length", type=int, default=FULL.length)
    parser.add_argument("--batch-size", type=int, default=FULL.batch_size)
    parser.add_argument("--windows", type=int, default=192, help="windows of test text in a bound")
    parser.add_argument("--walk-steps", type=int, default=64, help="steps of a walk in a bound")
    parser.add_argument("--smoke", action="store_true", help="a small model and a short text")
    options = parser.parse_args()
    if not options.smoke:
        if options.data is None or options.out is None:
            parser.error("name a text with --data and a folder with --out")
        training = replace(
            FULL,
            num_steps=options.steps,
            length=options.length,
            batch_size=options.batch_size,
        )
        size = Size(options.width, options.depth, 4, training, options.windows, options.walk_steps)
        Bench(options.data, options.out, size).table()
        return
    with TemporaryDirectory() as folder:
        os.environ["STOCHLOC_CACHE"] = str(Path(folder) / "cache")
        text = Path(folder) / "text.txt"
        text.write_text(TEXT * 60, encoding="utf-8")
        Bench(str(text), Path(folder) / "out", Size(16, 1, 2, QUICK, 2, 2)).table()


if __name__ == "__main__":
    main()
