"""The whole training in one command: every step in order; each resumes where it stopped.

Takes a device; leaves the model folder and its evaluation. Knows the steps and their sizes only.

    python -m training.run --device cuda
    nohup python -m training.run --device cpu > training/runs/run.log &

On a CPU the transformer's training starts as soon as the first shard of tokens is there; the other
shards and the detokenizer are made beside it on the second core. Once both can draw, the
detokenizer continues with what the transformer draws. A machine without network needs the data set
in its packed form (see `packed`). To continue from a model folder see `unpack`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass

from training.judge import CRITICS


@dataclass(frozen=True)
class Recipe:
    """How much of each step one device does."""

    grid: int
    tokenizer_steps: int
    tokenizer_batch: int
    num_shards: int
    detokenizer_steps: int
    adversarial_from: int
    num_drawn: int  # images whose tokens the detokenizer learns from at last
    drawn_steps: int
    transformer_steps: int
    transformer_batch: int
    judge_factor: float  # on the judges' own numbers of steps


RECIPES = {
    "cpu": Recipe(10, 800, 32, 13, 1600, 1000, 4000, 1600, 6400, 64, 1.0),
    "cuda": Recipe(16, 3000, 128, 13, 6000, 4000, 16000, 3000, 8000, 256, 2.0),
}
CRITIC_WEIGHT = 0.05
DRAWN_SHARE = 0.5
# glibc gives freed memory back and faults it in again, every step; this keeps it.
CPU_ENVIRONMENT = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "268435456",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "OMP_NUM_THREADS": "1",
}


def start(module: str, device: str, *options: object) -> subprocess.Popen[bytes]:
    """Start one step as a process of its own."""
    environment = {**os.environ, **(CPU_ENVIRONMENT if device == "cpu" else {})}
    command = [sys.executable, "-m", f"training.{module}", *map(str, options)]
    print("$", " ".join(command[1:]), flush=True)
    return subprocess.Popen(command, env=environment)


def finish(*processes: subprocess.Popen[bytes]) -> None:
    """Wait for steps; stop if one failed."""
    for process in processes:
        if process.wait():
            raise SystemExit(f"failed: {process.args!r}")


def main() -> None:
    """Read the command line and run every step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=list(RECIPES), default="cpu")
    device = parser.parse_args().device
    recipe = RECIPES[device]
    on = ("--device", device)
    finish(start("rasterize", device))
    finish(
        start(
            "train_tokenizer",
            device,
            *("--steps", recipe.tokenizer_steps, "--batch-size", recipe.tokenizer_batch),
            *("--grid", recipe.grid, *on),
        )
    )
    finish(start("tokenize_images", device, "--shards", 1, *on))
    transformer = start(
        "train_transformer",
        device,
        *("--steps", recipe.transformer_steps, "--batch-size", recipe.transformer_batch, *on),
    )
    finish(start("tokenize_images", device, "--shards", recipe.num_shards, *on))
    for kind in CRITICS:
        finish(start("judge", device, "--only", kind, "--steps-factor", recipe.judge_factor, *on))
    finish(
        start(
            "train_detokenizer",
            device,
            *("--steps", recipe.detokenizer_steps, *on),
            *("--adversarial-from", recipe.adversarial_from, "--critic-weight", CRITIC_WEIGHT),
        )
    )
    finish(start("judge", device, "--steps-factor", recipe.judge_factor, *on), transformer)
    finish(start("export", device))
    finish(start("draw_tokens", device, "--count", recipe.num_drawn, *on))
    finish(
        start(
            "train_detokenizer",
            device,
            *("--steps", recipe.detokenizer_steps + recipe.drawn_steps, *on),
            *("--adversarial-from", recipe.adversarial_from, "--critic-weight", CRITIC_WEIGHT),
            *("--drawn-share", DRAWN_SHARE),
        )
    )
    finish(start("export", device))
    finish(start("evaluate", device, *on))


if __name__ == "__main__":
    main()
