"""Draw pictures with the weights of a running training, for looking at and for measuring.

Takes captions and checkpoints; returns uint8 pictures. A plain sampler over whole prefixes: the
engine is the fast one, this one needs nothing but the training modules.

    python -m training.sample 'fox,robot' --out sheet.png
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from training.captions import END_TOKEN, PAD_TOKEN, START_TOKEN, standard_caption, tokenize
from training.folders import RUNS_DIR
from training.model import TextToTokens
from training.pixel_model import Detokenizer
from training.sources import STYLES
from training.train_detokenizer import load_detokenizer
from training.train_transformer import load_average


@torch.no_grad()
def sample_tokens(
    model: TextToTokens,
    text: Tensor,
    temperature: float,
    top_k: int,
    supercondition_factor: float,
    seed: int = 0,
) -> Tensor:
    """Sample image tokens [image, token] for text [image, text token]."""
    generator = torch.Generator().manual_seed(seed)
    is_guided = supercondition_factor != 1.0
    if is_guided:
        empty = torch.full_like(text, PAD_TOKEN)
        empty[:, 0], empty[:, 1] = START_TOKEN, END_TOKEN
        text = torch.cat([empty, text])
    bias = (text == PAD_TOKEN)[:, None, None, :] * torch.tensor(-1e4)
    with torch.autocast("cpu", torch.bfloat16):
        memory = model.encoder(text, bias)
        tokens = torch.full((len(text), 1), model.size.start_token)
        for _ in range(model.size.num_image_tokens):
            logits = model.decoder(tokens, memory, bias, only_last=True)[:, -1].float()
            logits = logits[:, : model.size.image_vocab_size]
            if is_guided:
                without, given = logits.chunk(2)
                logits = without * (1 - supercondition_factor) + given * supercondition_factor
            least = logits.topk(top_k).values[:, -1:]
            logits = logits.masked_fill(logits < least, -torch.inf) / temperature
            chosen = torch.multinomial(logits.softmax(-1), 1, generator=generator)
            tokens = torch.cat([tokens, chosen.repeat(2 if is_guided else 1, 1)], 1)
    return tokens[-len(chosen) :, 1:]


@torch.no_grad()
def draw(
    model: TextToTokens,
    vocabulary: dict[str, int],
    detokenizer: Detokenizer,
    captions: Sequence[str],
    temperature: float = 0.5,
    top_k: int = 64,
    supercondition_factor: float = 2.0,
    seed: int = 0,
) -> NDArray[np.uint8]:
    """Draw one picture for each caption: uint8 [image, row, column, 3]."""
    pictures = []
    for start in range(0, len(captions), 64):
        text = torch.from_numpy(tokenize(captions[start : start + 64], vocabulary))
        text = text[:, : int((text != PAD_TOKEN).sum(1).max())]
        tokens = sample_tokens(model, text, temperature, top_k, supercondition_factor, seed + start)
        with torch.autocast("cpu", torch.bfloat16):
            pixels = detokenizer(tokens).float().clamp(0, 1)
        pictures.append((pixels.permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8))
    return np.concatenate(pictures)


def save_grid(pictures: NDArray[np.uint8], num_columns: int, path: Path, size_px: int = 96) -> None:
    """Write pictures as one sheet, row by row."""
    cells = [Image.fromarray(picture).resize((size_px, size_px)) for picture in pictures]
    rows = -(-len(cells) // num_columns)
    sheet = Image.new("RGB", (num_columns * size_px, rows * size_px), "white")
    for index, cell in enumerate(cells):
        row, column = divmod(index, num_columns)
        sheet.paste(cell, (column * size_px, row * size_px))
    sheet.save(path)


def main() -> None:
    """Draw subjects in all styles."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("subjects", help="subjects or whole prompts, separated by commas")
    parser.add_argument("--as-prompts", action="store_true", help="take each text as it is")
    parser.add_argument("--temperature", type=float, default=0.5)
    parser.add_argument("--top-k", type=int, default=64)
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=RUNS_DIR)
    parser.add_argument("--out", type=Path, default=Path("sheet.png"))
    options = parser.parse_args()
    model, vocabulary = load_average(options.runs / "transformer.pt")
    detokenizer = load_detokenizer(options.runs / "detokenizer.pt")
    texts = [text.strip() for text in options.subjects.split(",")]
    captions = texts
    if not options.as_prompts:
        captions = [standard_caption(text, style) for text in texts for style in STYLES]
    pictures = draw(
        model,
        vocabulary,
        detokenizer,
        captions,
        options.temperature,
        options.top_k,
        options.guidance,
        options.seed,
    )
    save_grid(pictures, len(STYLES), options.out)


if __name__ == "__main__":
    main()
