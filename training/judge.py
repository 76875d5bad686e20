"""The judges: classifiers of subject and of style that have seen real pictures only.

Take the pictures without the held-out pairs; leave `judge_subject.pt` and `judge_style.pt`, which
are never shipped. Their scores on the real held-out pairs say how far their verdicts on drawn
pictures can be trusted. Two networks: a subject is recognized by shapes, a style by edges.

Three more, the critics, name styles too: the detokenizer is trained to please them, and judged by
another. The second is blind to the palette, so that colors alone cannot please all; the third sees
less sharply, so that the last pixel of an edge cannot.

    python -m training.judge
"""

from __future__ import annotations

import argparse
import math
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
from training.folders import RUNS_DIR
from training.optimizer import TwoOptimizers, lr_scale
from training.pictures import Pictures
from training.rasterize import load_pictures
from training.train_tokenizer import read_batch


@dataclass(frozen=True)
class JudgeRecipe:
    """How one judge is built and trained."""

    target: str  # "subject" or "style"
    size_px: int  # pictures are shrunk to this
    widths: tuple[int, ...]
    sees_palette: bool
    max_noise: float
    blur_share: float
    num_steps: int
    seed: int = 8


# A style is recognized by edges, fills and its exact palette: full resolution and little noise.
# Half of the pictures are blurred, because drawn ones are soft and sharpness must not decide. A
# subject is recognized by shapes: less resolution and more noise.
# Critics are no judges: the detokenizer is trained to please them, so they must be other networks.
RECIPES = {
    "style": JudgeRecipe("style", 160, (48, 96, 160), True, 0.02, 0.5, 4800),
    "subject": JudgeRecipe("subject", 80, (96, 224, 384), False, 0.06, 0.3, 1000),
    "critic": JudgeRecipe("style", 160, (64, 112, 128), True, 0.03, 0.5, 900, seed=12),
    "line_critic": JudgeRecipe("style", 160, (56, 104, 144), False, 0.03, 0.5, 900, seed=13),
    "small_critic": JudgeRecipe("style", 128, (64, 128, 160), True, 0.03, 0.3, 2000, seed=14),
}
CRITICS = ("critic", "line_critic", "small_critic")


class Palette(nn.Module):
    """Which colors a picture is painted in, wherever they are: a histogram with learned bins."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bins = nn.Sequential(
            nn.Conv2d(15, 48, 1, bias=False),
            nn.BatchNorm2d(48),
            nn.SiLU(),
            nn.Conv2d(48, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.SiLU(),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Map pixels in 0..1 [batch, 3, row, column] to shares [batch, width]."""
        few = pixels[:, :, 2::4, 2::4]  # fills are flat: a sixteenth of the pixels tells as much
        angles = [2 * math.pi * turns * few for turns in (1, 2)]  # neighbors in color come apart
        waves = [wave(angle) for angle in angles for wave in (torch.sin, torch.cos)]
        return self.bins(torch.cat([few, *waves], 1)).mean((2, 3))


class Judge(nn.Module):
    """A small convolutional network over pictures of `size_px`."""

    def __init__(self, num_classes: int, recipe: JudgeRecipe) -> None:
        super().__init__()
        self.size_px = recipe.size_px
        widths = recipe.widths
        layers: list[nn.Module] = []
        for index, (wide_in, wide_out) in enumerate(pairwise((48, *widths))):
            layers += [nn.Conv2d(wide_in, wide_out, 3, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(wide_out), nn.SiLU()]
            layers += [nn.Conv2d(wide_out, wide_out, 3, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(wide_out), nn.SiLU()]
            if index < len(widths) - 1:
                layers.append(nn.MaxPool2d(2))
        self.layers = nn.Sequential(*layers)
        self.palette = Palette(96) if recipe.sees_palette else None
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(2 * widths[-1] + 96 * recipe.sees_palette, num_classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map pixels in 0..1 [batch, 3, size_px, size_px] to logits [batch, class]."""
        hidden = self.layers(F.pixel_unshuffle(pixels * 2 - 1, 4))
        features = [hidden.mean((2, 3)), hidden.amax((2, 3))]
        if self.palette is not None:
            features.append(self.palette(pixels))
        return self.head(self.dropout(torch.cat(features, 1)))


def build_judge(kind: str, num_classes: int) -> Judge:
    """A fresh judge, or a fresh critic."""
    return Judge(num_classes, RECIPES[kind])


@dataclass(frozen=True)
class Judges:
    """Both judges, ready to ask."""

    subject: Judge
    style: Judge


def distort(pixels: Tensor, rng: np.random.Generator, recipe: JudgeRecipe) -> Tensor:
    """Move pictures, blur some and add noise, as drawn pictures are never quite clean."""
    count = len(pixels)
    pixels = warp(
        pixels,
        rng.uniform(0.85, 1.1, count).tolist(),
        rng.normal(0, 5, count).tolist(),
        rng.uniform(-0.06, 0.06, (count, 2)).tolist(),
    )
    if rng.random() < recipe.blur_share:
        small = F.avg_pool2d(pixels, 2)
        pixels = F.interpolate(small, scale_factor=2.0, mode="bilinear", align_corners=False)
    generator = torch.Generator(pixels.device).manual_seed(int(rng.integers(1 << 31)))
    noise = torch.randn(pixels.shape, generator=generator, device=pixels.device)
    return (pixels + noise * rng.uniform(0, recipe.max_noise)).clamp(0, 1)


def train(
    kind: str, pictures: Pictures, num_steps: int, batch_size: int, device: str, out: Path
) -> Judge:
    """Train one judge on real pictures, with a new cycle if it exists in `out`."""
    recipe = RECIPES[kind]
    torch.manual_seed(recipe.seed)
    targets = torch.from_numpy(targets_of(pictures, recipe))
    model = build_judge(kind, int(targets.max()) + 1)
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = TwoOptimizers(
        model, ("head", "layers.0.", "bins.0."), 0.02, 2e-3, weight_decay=0.02
    )
    rows = np.flatnonzero(~pictures.is_held_out)
    checkpoint, num_done = out / f"judge_{kind}.pt", 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device)
        model.load_state_dict(saved["weights"])
        num_done = saved["steps"]
    since, losses = time.monotonic(), []
    for step in range(num_steps):
        rng = np.random.default_rng((recipe.seed, num_done + step))
        chosen = np.sort(rng.choice(rows, batch_size, replace=False))
        pixels = read_batch(pictures, chosen, recipe.size_px, device)
        pixels = distort(pixels, rng, recipe)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        with torch.autocast(pixels.device.type, torch.bfloat16):
            logits = model(pixels)
        loss = F.cross_entropy(logits.float(), targets[chosen].to(device), label_smoothing=0.1)
        loss.backward()
        optimizer.set_lr_scale(lr_scale(step, num_steps, num_warmup=50, decay_share=0.8))
        optimizer.step()
        losses.append(loss.detach())
        if (step + 1) % 50 == 0:
            speed = len(losses) * batch_size / (time.monotonic() - since)
            mean = float(torch.stack(losses).mean())
            print(f"{kind} step {step + 1} loss {mean:.3f} {speed:.0f} images/s", flush=True)
            since, losses = time.monotonic(), []
    torch.save({"weights": model.state_dict(), "steps": num_done + num_steps}, checkpoint)
    return load_judge(kind, out)


def targets_of(pictures: Pictures, recipe: JudgeRecipe) -> NDArray[np.int64]:
    """What a judge shall say of each picture."""
    return pictures.subject if recipe.target == "subject" else pictures.style


def load_judge(kind: str, folder: Path) -> Judge:
    """Read one trained judge."""
    weights = torch.load(folder / f"judge_{kind}.pt", map_location="cpu")["weights"]
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


def score_held_out(pictures: Pictures, kind: str, judge: Judge) -> dict[str, float]:
    """One judge's own accuracy on real pictures of pairs that it has not seen."""
    rows = np.flatnonzero(pictures.is_held_out)
    recipe = RECIPES[kind]
    rank = rank_of(ask(judge, pictures.pixels[rows]), targets_of(pictures, recipe)[rows])
    if recipe.target == "style":
        return {"style": float((rank == 0).mean())}
    return {"subject_top1": float((rank == 0).mean()), "subject_top5": float((rank < 5).mean())}


def main() -> None:
    """Read the command line and train: the judges that are missing, or all of them further."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=list(RECIPES), help="train this judge alone")
    parser.add_argument("--steps-factor", type=float, default=1.0, help="longer or shorter")
    parser.add_argument("--more", action="store_true", help="train existing judges further")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=RUNS_DIR)
    options = parser.parse_args()
    pictures = load_pictures()
    for kind in [options.only] if options.only else RECIPES:
        if options.more or not (options.out / f"judge_{kind}.pt").exists():
            num_steps = round(RECIPES[kind].num_steps * options.steps_factor)
            judge = train(
                kind, pictures, num_steps, options.batch_size, options.device, options.out
            )
            print(kind, score_held_out(pictures, kind, judge), flush=True)


if __name__ == "__main__":
    main()
