"""Make checkpoints from a model folder, to continue training where only the folder is left.

Takes a shipped model folder; leaves `transformer.pt` and `detokenizer.pt`, whose weights and
averages are the folder's and whose optimizers are fresh. The image encoder is not in the folder:
`train_encoder` trains a new one against the detokenizer. Does not train anything itself.

    python -m training.unpack
    python -m training.train_encoder
    python -m training.tokenize_images --shards 5
    python -m training.train_transformer --steps 4000
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from promptlab.models.dalle.config import DalleConfig, DetokenizerConfig, read_config
from promptlab.models.dalle.tokenizer import VOCAB_FILE
from promptlab.models.dalle.weights import open_tensors
from training.folders import PACKAGE_DIR, RUNS_DIR
from training.model import TransformerSize
from training.pixel_model import DetokenizerSize

DETOKENIZER_PREFIX = "detokenizer."


def transformer_size(config: DalleConfig) -> TransformerSize:
    """The training form's sizes of a model folder."""
    return TransformerSize(
        text_vocab_size=config.text_vocab_size,
        image_vocab_size=config.image_vocab_size,
        num_image_tokens=config.image_grid**2,
        text_length=config.text_length,
        num_encoder_layers=config.num_encoder_layers,
        num_decoder_layers=config.num_decoder_layers,
        width=config.width,
        num_heads=config.num_heads,
        glu_width=config.glu_width,
    )


def detokenizer_size(config: DetokenizerConfig, image_grid: int) -> DetokenizerSize:
    """The training form's sizes of a folder's detokenizer.

    The folder holds the table of codes and not the levels that made it: they are this package's.
    """
    size = DetokenizerSize.of_grid(image_grid)
    expected = (size.channels, size.blocks_per_level, size.norm_groups, size.vocab_size + 1)
    got = (config.channels, config.blocks_per_level, config.norm_groups, config.vocab_size)
    if expected != got:
        raise ValueError(
            f"a detokenizer of grid {image_grid}: expected channels, blocks, groups and tokens "
            f"{expected}, got {got}; unpack a folder that training.export wrote"
        )
    return size


def checkpoint_of(weights: Mapping[str, Tensor], size: Any) -> dict[str, Any]:
    """A checkpoint at step 0 whose model and average are both `weights`; no optimizer state."""
    weights = {name: value.float() for name, value in weights.items()}
    return {
        "model": weights,
        "average": {
            "shadow": {name: value.clone() for name, value in weights.items()},
            "num_updates": 0,
        },
        "step": 0,
        "size": asdict(size),
    }


def unpack(folder: Path, runs: Path) -> None:
    """Write both checkpoints into `runs`; refuses to replace one that is there."""
    config = read_config(folder)
    vocabulary = json.loads((folder / VOCAB_FILE).read_text("utf-8"))
    text_to_tokens, detokenizer = {}, {}
    with open_tensors(folder) as tensors:
        for name, tensor in tensors.items():
            if name.startswith(DETOKENIZER_PREFIX):
                detokenizer[name.removeprefix(DETOKENIZER_PREFIX)] = tensor
            else:
                text_to_tokens[name] = tensor
    pixels = detokenizer_size(config.detokenizer, config.image_grid)
    checkpoints = {
        "transformer.pt": {
            **checkpoint_of(text_to_tokens, transformer_size(config)),
            "vocabulary": vocabulary,
        },
        "detokenizer.pt": checkpoint_of(detokenizer, pixels),
    }
    runs.mkdir(parents=True, exist_ok=True)
    for filename in checkpoints:
        if (runs / filename).exists():
            raise FileExistsError(
                f"{runs / filename} exists: continue from it, or delete it to start from "
                f"the weights in {folder}"
            )
    for filename, checkpoint in checkpoints.items():
        torch.save(checkpoint, runs / filename)


def main() -> None:
    """Read the command line and unpack."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=PACKAGE_DIR)
    parser.add_argument("--runs", type=Path, default=RUNS_DIR)
    options = parser.parse_args()
    unpack(options.folder, options.runs)


if __name__ == "__main__":
    main()
