"""The training loop: updates, the held-out bound now and then, checkpoints, and the end.

A run lives in a folder: `recipe.json` (what is trained, how, on what), `tokenizer.json`,
`metrics.jsonl`, `checkpoint.safetensors` (to continue) and `config.json` with `model.safetensors`
(to use: of the averaged weights those with the best held-out bound; `tasks.chosen_weights` says
when those of the checkpoint are used instead).
"""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor

from stochloc.nn import LocalizationModel
from stochloc.training.interruption import Interruption, Stopped
from stochloc.training.loggers.base import Logger
from stochloc.training.metrics import append_metrics, keep_metrics_until
from stochloc.training.progress import ProgressDisplay
from stochloc.training.schedule import learning_rate
from stochloc.training.throughput import throughput_of
from stochloc.training.trainer import Trainer


def train(trainer: Trainer, loggers: Sequence[Logger] = ()) -> LocalizationModel:
    """Train a model to the end of its recipe.

    Args:
        trainer: The run, new or resumed; its folder, which exists now, gets metrics, checkpoints
            and the model.
        loggers: Show the metrics elsewhere; those of the first process are used.

    Returns:
        The model of the best held-out bound, its averaged weights, on the CPU of each process.

    Raises:
        ValueError: The loss or its gradient became infinite or NaN; then
            `failure.safetensors` has the batch and the weights before the update.
        OSError: The disk is full; the last checkpoint is intact.
        Stopped: A signal asked for it; the checkpoint is of the last update.
    """
    fabric, folder, config = trainer.fabric, trainer.folder, trainer.config
    trained_s = 0.0
    if fabric.is_global_zero:
        trained_s = keep_metrics_until(trainer.step, folder)
    update_tokens = config.batch_size * config.length
    progress = ProgressDisplay(
        trainer.step, config.num_steps, update_tokens, trainer.model.target, fabric.is_global_zero
    )
    throughput = throughput_of(
        trainer.model, config.length, config.batch_size, fabric.world_size, trainer.step
    )
    with Interruption() as interruption, progress as display:
        started_s = time.monotonic() - trained_s
        while not trainer.has_ended:
            loss = trainer.update()
            step = trainer.step
            is_last, is_best = step == config.num_steps, False
            is_logged = step % config.log_every == 0 or is_last
            is_evaluated = step % config.eval_every == 0 or is_last
            if is_logged or is_evaluated:
                trainer.check()
            if is_logged:
                nats = float(cast(Tensor, fabric.all_reduce(loss)))
                speed = throughput.record(step)
                display.update(step, nats, speed.get("share_of_peak"))
                record = {"step": step, "loss_bits": nats / math.log(2),
                          "learning_rate": learning_rate(config, step - 1),
                          "tokens": step * update_tokens,
                          "elapsed_s": round(time.monotonic() - started_s, 3), **speed}  # fmt: skip
                _log(fabric, folder, record, loggers)
            if is_evaluated:
                record = trainer.evaluate()
                is_best = trainer.keep_if_best(record)
                _log(fabric, folder, record, loggers)
                display.say(_held_out_line(record))
            has_ended = trainer.has_ended
            signum = (
                0 if has_ended else _signal_to_any(fabric, interruption, step, config.log_every)
            )
            if step % config.checkpoint_every == 0 or has_ended or is_best or signum:
                trainer.save()
            if is_evaluated or step % config.checkpoint_every == 0:
                throughput.begin(step)
            if signum:
                raise Stopped(signum)
        if trainer.is_out_of_patience and trainer.step < config.num_steps:
            display.say(
                f"Training ends at step {trainer.step} of {config.num_steps}: the last "
                f"{trainer.bounds_since_best} held-out bounds were no better than the best."
            )
    return LocalizationModel.from_pretrained(folder).eval()


def _signal_to_any(fabric: Fabric, interruption: Interruption, step: int, every: int) -> int:
    """The signal that stops the run, the same for every process; now and then if there are some."""
    if fabric.world_size == 1:
        return interruption.signum
    if step % every:
        return 0
    return int(
        cast(
            Tensor,
            fabric.all_reduce(
                torch.tensor(interruption.signum, device=fabric.device), reduce_op="max"
            ),
        )
    )


def _held_out_line(record: dict[str, Any]) -> str:
    spread = "" if record["stderr"] is None else f" ± {record['stderr']:.3f}"
    byte = record["valid_bits_per_byte"]
    per_byte = "" if byte is None else f", {byte:.3f} per byte"
    return (
        f"step {record['step']}: held-out {record['valid_bits_per_token']:.3f}{spread} bits "
        f"per token{per_byte} (masked path)\n  {record['sample']}"
    )


def _log(fabric: Fabric, folder: Path, record: dict[str, Any], loggers: Sequence[Logger]) -> None:
    if fabric.is_global_zero:
        append_metrics(folder, record)
        for logger in loggers:
            logger.log(record)
