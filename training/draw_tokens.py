"""Have the transformer draw trained pairs, and keep the tokens for the detokenizer to learn from.

Takes a model folder, whose engine draws, and the pictures' names, which say what to ask for;
leaves `drawn.npz`. The detokenizer otherwise learns from tokens of real pictures only, and what a
transformer draws is never quite like them. Knows nothing of pixels.

    python -m training.draw_tokens --count 3000
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from promptlab.models.dalle import DalleModel, open_folder
from promptlab.records import Request
from training.captions import Change, write_caption
from training.folders import PACKAGE_DIR, RUNS_DIR
from training.pictures import Pictures
from training.rasterize import load_pictures
from training.sources import STYLES

DRAWN_FILE = "drawn.npz"
SEED = 10


@dataclass(frozen=True)
class DrawnTokens:
    """Image tokens as the transformer drew them."""

    tokens: NDArray[np.int64]  # [image, token]

    def choose(self, count: int, rng: np.random.Generator) -> Tensor:
        """Some of the images, int64 [image, token]."""
        return torch.from_numpy(self.tokens[rng.choice(len(self.tokens), count, replace=False)])

    def save(self, path: Path) -> None:
        """Write all at once."""
        aside = path.with_suffix(".tmp.npz")
        np.savez(aside, tokens=self.tokens.astype(np.uint16))
        aside.replace(path)

    @classmethod
    def load(cls, path: Path) -> DrawnTokens:
        """Read them back."""
        with np.load(path) as arrays:
            return cls(arrays["tokens"].astype(np.int64))


def draw_tokens(model: DalleModel, pictures: Pictures, count: int) -> DrawnTokens:
    """Draw `count` random trained pairs (seeded) as a user would: with the model's defaults."""
    rng = np.random.default_rng(SEED)
    rows = rng.choice(np.flatnonzero(~pictures.is_held_out), count)
    params = {name: parameter.default for name, parameter in model.parameters.items()}
    requests = []
    for number, row in enumerate(rows.tolist()):
        subject, style = pictures.subject[row], STYLES[pictures.style[row]]
        caption = write_caption(
            pictures.subjects[subject], pictures.aliases[subject], style, Change(), rng
        )
        requests.append(Request(f"{number:016x}", caption, number, params))
    tokens, block = [], model.runner.most()
    since = time.monotonic()
    for start in range(0, count, block):
        part = requests[start : start + block]
        ids = [model.runner.tokenizer.tokenize(request.prompt).ids for request in part]
        tokens.append(model.runner.decode(part, ids).cpu())
        if start // block % 20 == 19:
            speed = (start + block) / (time.monotonic() - since)
            print(f"{start + block} of {count}, {speed:.1f} images/s", flush=True)
    drawn = torch.cat(tokens).numpy()
    first_style = model.config.image_vocab_size - len(STYLES)
    return DrawnTokens(drawn[drawn[:, 0] >= first_style])  # rarely, an image has no style


def main() -> None:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--folder", type=Path, default=PACKAGE_DIR)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=RUNS_DIR)
    options = parser.parse_args()
    model = open_folder(str(options.folder), device=options.device, dtype="float32")
    model.load()
    draw_tokens(model, load_pictures(), options.count).save(options.out / DRAWN_FILE)


if __name__ == "__main__":
    main()
