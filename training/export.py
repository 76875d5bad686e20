"""Write the model folder that the engine reads, and the lists of what the model knows.

Takes the checkpoints of a training; leaves config, weights, vocabulary, subjects and styles in the
package. Does not train or judge anything.

    python -m training.export --temperature 0.3 --top-k 32 --supercondition-factor 3
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

from promptlab.models.dalle.config import DalleConfig, Defaults, DetokenizerConfig
from promptlab.models.dalle.weights import write_model_folder
from training.captions import style_words
from training.folders import PACKAGE_DIR, RUNS_DIR
from training.pixel_model import DetokenizerSize
from training.rasterize import load_pictures
from training.sources import STYLES
from training.train_detokenizer import load_detokenizer
from training.train_transformer import load_average


def write_lists(folder: Path) -> None:
    """Write `subjects.txt`, one subject a line, and `styles.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "subjects.txt").write_text("".join(f"{name}\n" for name in load_pictures().subjects))
    styles = [
        {
            "name": style.name,
            "phrase": f"{{prompt}} in the style of {style_words(style)}",
            "plain_phrase": f"{{prompt}} {style.phrase}",
            "description": style.description,
        }
        for style in STYLES
    ]
    (folder / "styles.json").write_text(json.dumps(styles, indent=2) + "\n")


def collect_state(runs: Path) -> dict[str, Tensor]:
    """All weights of the model under the engine's names, as float16."""
    model, _ = load_average(runs / "transformer.pt")
    detokenizer = load_detokenizer(runs / "detokenizer.pt")
    state = {
        **model.state_dict(),
        **{f"detokenizer.{k}": v for k, v in detokenizer.state_dict().items()},
    }
    return {name: value.to(torch.float16).contiguous() for name, value in state.items()}


def export(
    runs: Path, folder: Path, temperature: float, top_k: int, supercondition_factor: float
) -> None:
    """Write the model folder from the newest checkpoints."""
    saved = torch.load(runs / "transformer.pt", map_location="cpu")
    size = saved["size"]
    pixels = DetokenizerSize(**torch.load(runs / "detokenizer.pt", map_location="cpu")["size"])
    config = DalleConfig(
        name="tiny",
        num_encoder_layers=size["num_encoder_layers"],
        num_decoder_layers=size["num_decoder_layers"],
        width=size["width"],
        num_heads=size["num_heads"],
        glu_width=size["glu_width"],
        text_vocab_size=size["text_vocab_size"],
        text_length=size["text_length"],
        image_vocab_size=size["image_vocab_size"],
        image_embeddings=size["image_vocab_size"] + 1,
        start_token=size["image_vocab_size"],
        image_grid=pixels.image_grid,
        detokenizer=DetokenizerConfig(
            vocab_size=pixels.vocab_size + 1,  # its last row stands for what is missing
            embed_width=pixels.embed_width,
            channels=pixels.channels,
            blocks_per_level=pixels.blocks_per_level,
            attention_levels=pixels.attention_levels,
            mid_attention=True,
            norm_groups=pixels.norm_groups,
        ),
        tokenizer="word",
        defaults=Defaults(temperature, top_k, supercondition_factor),
        fingerprint="",
    )
    write_model_folder(folder, config, collect_state(runs), saved["vocabulary"])
    write_lists(folder)


def main() -> None:
    """Read the command line and export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--temperature", type=float, default=0.3)
    parser.add_argument("--top-k", type=int, default=32)
    parser.add_argument("--supercondition-factor", type=float, default=3.0)
    parser.add_argument("--runs", type=Path, default=RUNS_DIR)
    parser.add_argument("--folder", type=Path, default=PACKAGE_DIR)
    parser.add_argument("--lists-only", action="store_true")
    options = parser.parse_args()
    if options.lists_only:
        write_lists(options.folder)
        return
    export(
        options.runs,
        options.folder,
        options.temperature,
        options.top_k,
        options.supercondition_factor,
    )


if __name__ == "__main__":
    main()
