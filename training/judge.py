"""The judges: classifiers of subject and of style that have seen real pictures only.

Take the pictures without the held-out pairs; leave `judge_subject.pt` and `judge_style.pt`, which
are never shipped. Their scores on the real held-out pairs say how far their verdicts on drawn
pictures can be trusted. Two networks, since a subject is told by shapes and a style by edges.

    python -m training.judge --steps 1500
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

from training.augment import warp
from training.optimizer import Average, TwoOptimizers, lr_scale
from training.rasterize import Pictures, load_pictures
from training.train_tokenizer import RUNS_DIR, read_batch


class Judge(nn.Module):
    """A small convolutional network over pictures of `size_px`."""

    def __init__(self, num_classes: int, size_px: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.size_px = size_px
        layers: list[nn.Module] = []
        for index, (wide_in, wide_out) in enumerate(pairwise((48, *widths))):
            layers += [nn.Conv2d(wide_in, wide_out, 3, padding=1), nn.GroupNorm(8, wide_out)]
            layers += [nn.SiLU(), nn.Conv2d(wide_out, wide_out, 3, padding=1)]
            layers += [nn.GroupNorm(8, wide_out), nn.SiLU()]
            if index < len(widths) - 1:
                layers.append(nn.MaxPool2d(2))
        self.layers = nn.Sequential(*layers)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(2 * widths[-1], num_classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map pixels in 0..1 [batch, 3, size_px, size_px] to logits [batch, class]."""
        hidden = self.layers(F.pixel_unshuffle(pixels * 2 - 1, 4))
        features = torch.cat([hidden.mean((2, 3)), hidden.amax((2, 3))], 1)
        return self.head(self.dropout(features))


def build_judge(kind: str, num_classes: int) -> Judge:
    """A fresh judge of "subject" or "style"."""
    if kind == "subject":
        return Judge(num_classes, size_px=96, widths=(128, 256, 384))
    return Judge(num_classes, size_px=160, widths=(64, 128, 256))


@dataclass(frozen=True)
class Judges:
    """Both judges, ready to ask."""

    subject: Judge
    style: Judge


def distort(pixels: Tensor, rng: np.random.Generator, max_noise: float) -> Tensor:
    """Move pictures, blur some and add noise, as drawn pictures are never quite clean."""
    count = len(pixels)
    pixels = warp(
        pixels,
        rng.uniform(0.85, 1.1, count).tolist(),
        rng.normal(0, 5, count).tolist(),
        rng.uniform(-0.06, 0.06, (count, 2)).tolist(),
    )
    if rng.random() < 0.3:
        small = F.avg_pool2d(pixels, 2)
        pixels = F.interpolate(small, scale_factor=2.0, mode="bilinear", align_corners=False)
    generator = torch.Generator().manual_seed(int(rng.integers(1 << 31)))
    noise = torch.randn(pixels.shape, generator=generator) * rng.uniform(0, max_noise)
    return (pixels + noise).clamp(0, 1)


def train(kind: str, pictures: Pictures, num_steps: int, batch_size: int, out: Path) -> Judge:
    """Train one judge on real pictures."""
    torch.manual_seed(8)
    targets = torch.from_numpy(pictures.subject if kind == "subject" else pictures.style)
    model = build_judge(kind, int(targets.max()) + 1)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = TwoOptimizers(model, ("head", "layers.0."), 0.02, 2e-3, weight_decay=0.02)
    average = Average(model, 0.998)
    rows = np.flatnonzero(~pictures.is_held_out)
    since, losses = time.monotonic(), []
    for step in range(num_steps):
        rng = np.random.default_rng((8, step))
        chosen = np.sort(rng.choice(rows, batch_size, replace=False))
        pixels = read_batch(pictures, chosen, model.size_px)
        pixels = distort(pixels, rng, 0.06 if kind == "subject" else 0.02)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(pixels)
        loss = F.cross_entropy(logits.float(), targets[chosen], label_smoothing=0.1)
        loss.backward()
        optimizer.set_lr_scale(lr_scale(step, num_steps))
        optimizer.step()
        average.update(model)
        losses.append(loss.item())
        if (step + 1) % 100 == 0:
            speed = len(losses) * batch_size / (time.monotonic() - since)
            print(f"{kind} step {step + 1} loss {np.mean(losses):.3f} {speed:.0f} images/s")
            since, losses = time.monotonic(), []
    torch.save(average.shadow, out / f"judge_{kind}.pt")
    return load_judge(kind, out)


def load_judge(kind: str, folder: Path) -> Judge:
    """Read one trained judge."""
    weights = torch.load(folder / f"judge_{kind}.pt")
    model = build_judge(kind, len(weights["head.bias"]))
    model.load_state_dict(weights)
    return model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def load_judges(folder: Path) -> Judges:
    """Read both."""
    return Judges(load_judge("subject", folder), load_judge("style", folder))


@torch.no_grad()
def ask(judge: Judge, pictures: NDArray[np.uint8]) -> Tensor:
    """Logits [image, class] of uint8 pictures [image, row, column, 3]."""
    results = []
    for start in range(0, len(pictures), 64):
        pixels = torch.from_numpy(pictures[start : start + 64]).permute(0, 3, 1, 2).float() / 255
        if pixels.shape[-1] != judge.size_px:
            pixels = F.interpolate(pixels, (judge.size_px, judge.size_px), mode="area")
        results.append(judge(pixels))
    return torch.cat(results)


def rank_of(logits: Tensor, target: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many classes score above the right one: 0 is right, below 5 is in the top five."""
    right = logits.gather(1, torch.from_numpy(target)[:, None])
    return (logits > right).sum(1).numpy()


def score_held_out(pictures: Pictures, judges: Judges) -> dict[str, float]:
    """The judges' own accuracy on real pictures of pairs that they have not seen."""
    rows = np.flatnonzero(pictures.is_held_out)
    pixels = pictures.pixels[rows]
    rank = rank_of(ask(judges.subject, pixels), pictures.subject[rows])
    style_rank = rank_of(ask(judges.style, pixels), pictures.style[rows])
    return {
        "subject_top1": float((rank == 0).mean()),
        "subject_top5": float((rank < 5).mean()),
        "style": float((style_rank == 0).mean()),
    }


def main() -> None:
    """Read the command line and train the judges that are missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--out", type=Path, default=RUNS_DIR)
    options = parser.parse_args()
    pictures = load_pictures()
    for kind in ("subject", "style"):
        if not (options.out / f"judge_{kind}.pt").exists():
            train(kind, pictures, options.steps, options.batch_size, options.out)
    print(score_held_out(pictures, load_judges(options.out)))


if __name__ == "__main__":
    main()
