"""The judge: a classifier of subject and style that has seen real pictures only.

Takes the pictures without the held-out pairs; leaves `judge.pt`, which is never shipped. Its score
on the real held-out pairs says how far its verdicts on drawn pictures can be trusted.

    python -m training.judge --steps 2500
"""

from __future__ import annotations

import argparse
import time
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

JUDGE_SIZE_PX = 96
STYLE_WEIGHT = 0.3


class Judge(nn.Module):
    """A small convolutional network with two heads."""

    def __init__(self, num_subjects: int, num_styles: int) -> None:
        super().__init__()
        widths = (48, 128, 256, 384)
        layers: list[nn.Module] = []
        for index, (wide_in, wide_out) in enumerate(pairwise(widths)):
            layers += [nn.Conv2d(wide_in, wide_out, 3, padding=1), nn.GroupNorm(8, wide_out)]
            layers += [nn.SiLU(), nn.Conv2d(wide_out, wide_out, 3, padding=1)]
            layers += [nn.GroupNorm(8, wide_out), nn.SiLU()]
            if index < len(widths) - 2:
                layers.append(nn.MaxPool2d(2))
        self.layers = nn.Sequential(*layers)
        self.dropout = nn.Dropout(0.3)
        self.subject_head = nn.Linear(2 * widths[-1], num_subjects)
        self.style_head = nn.Linear(2 * widths[-1], num_styles)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Map pixels in 0..1 [batch, 3, 96, 96] to subject and style logits."""
        hidden = self.layers(F.pixel_unshuffle(pixels * 2 - 1, 4))
        features = torch.cat([hidden.mean((2, 3)), hidden.amax((2, 3))], 1)
        return self.subject_head(self.dropout(features)), self.style_head(features)


def distort(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """Move pictures, blur some and add noise, as drawn pictures are never quite clean."""
    count = len(pixels)
    pixels = warp(
        pixels,
        rng.uniform(0.8, 1.1, count).tolist(),
        rng.normal(0, 6, count).tolist(),
        rng.uniform(-0.06, 0.06, (count, 2)).tolist(),
    )
    if rng.random() < 0.4:
        small = F.avg_pool2d(pixels, 2)
        pixels = F.interpolate(small, scale_factor=2.0, mode="bilinear", align_corners=False)
    generator = torch.Generator().manual_seed(int(rng.integers(1 << 31)))
    noise = torch.randn(pixels.shape, generator=generator) * rng.uniform(0, 0.06)
    return (pixels + noise).clamp(0, 1)


def train(num_steps: int, batch_size: int, out: Path) -> None:
    """Train the judge on real pictures."""
    pictures = load_pictures()
    torch.manual_seed(8)
    model = Judge(len(pictures.subjects), int(pictures.style.max()) + 1)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = TwoOptimizers(model, ("head", "layers.0."), 0.02, 2e-3, weight_decay=0.02)
    average = Average(model, 0.998)
    rows = np.flatnonzero(~pictures.is_held_out)
    since, losses = time.monotonic(), []
    for step in range(num_steps):
        rng = np.random.default_rng((8, step))
        chosen = np.sort(rng.choice(rows, batch_size, replace=False))
        pixels = distort(read_batch(pictures, chosen, JUDGE_SIZE_PX), rng)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            subject, style = model(pixels)
        subject_loss = F.cross_entropy(
            subject.float(), torch.from_numpy(pictures.subject[chosen]), label_smoothing=0.1
        )
        style_loss = F.cross_entropy(style.float(), torch.from_numpy(pictures.style[chosen]))
        (subject_loss + STYLE_WEIGHT * style_loss).backward()
        optimizer.set_lr_scale(lr_scale(step, num_steps))
        optimizer.step()
        average.update(model)
        losses.append((subject_loss.item(), style_loss.item()))
        if (step + 1) % 100 == 0:
            speed = len(losses) * batch_size / (time.monotonic() - since)
            print(f"step {step + 1} losses {np.mean(losses, 0)} {speed:.0f} images/s", flush=True)
            since, losses = time.monotonic(), []
    torch.save({"weights": average.shadow, "subjects": pictures.subjects}, out / "judge.pt")
    print(score_held_out(pictures, load_judge(out / "judge.pt")))


def load_judge(path: Path) -> Judge:
    """Read a trained judge."""
    weights = torch.load(path)["weights"]
    model = Judge(len(weights["subject_head.bias"]), len(weights["style_head.bias"]))
    model.load_state_dict(weights)
    return model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@torch.no_grad()
def classify(judge: Judge, pictures: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
    """Subject and style logits of uint8 pictures [image, row, column, 3]."""
    results = []
    for start in range(0, len(pictures), 64):
        pixels = torch.from_numpy(pictures[start : start + 64]).permute(0, 3, 1, 2).float() / 255
        size = (JUDGE_SIZE_PX, JUDGE_SIZE_PX)
        results.append(judge(F.interpolate(pixels, size, mode="area")))
    subjects, styles = zip(*results, strict=True)
    return torch.cat(subjects), torch.cat(styles)


def rank_of(logits: Tensor, target: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many classes score above the right one: 0 is right, below 5 is in the top five."""
    right = logits.gather(1, torch.from_numpy(target)[:, None])
    return (logits > right).sum(1).numpy()


def score_held_out(pictures: Pictures, judge: Judge) -> dict[str, float]:
    """The judge's own accuracy on real pictures of pairs it has not seen."""
    rows = np.flatnonzero(pictures.is_held_out)
    subject, style = classify(judge, pictures.pixels[rows])
    rank = rank_of(subject, pictures.subject[rows])
    return {
        "subject_top1": float((rank == 0).mean()),
        "subject_top5": float((rank < 5).mean()),
        "style": float((rank_of(style, pictures.style[rows]) == 0).mean()),
    }


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--out", type=Path, default=RUNS_DIR)
    options = parser.parse_args()
    train(options.steps, options.batch_size, options.out)


if __name__ == "__main__":
    main()
