"""Train the image tokenizer: pixels to a grid of discrete codes, with a light pixel decoder.

Takes the pictures; leaves `tokenizer.pt` (the encoder, frozen from here on). The decoder used here
is a throw-away mirror of the encoder, four times cheaper than the real one, because only the codes
matter; the detokenizer that is shipped is then trained on the frozen codes. Resumable.

    python -m training.train_tokenizer --steps 3000
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

from training.augment import COLOR_WORDS, recolor, warp
from training.folders import RUNS_DIR
from training.optimizer import Average, TwoOptimizers, lr_scale
from training.pictures import Pictures
from training.pixel_model import DetokenizerSize, ImageEncoder, ResnetBlock, quantize
from training.rasterize import load_pictures

NOT_HIDDEN = ("stem", "conv_in", "conv_out")


class LightDecoder(nn.Module):
    """Codes to pixels through depth-to-space; only to train the encoder against."""

    def __init__(self, size: DetokenizerSize) -> None:
        super().__init__()
        fine, groups = 96, size.norm_groups
        widths = {3: [128, fine], 4: [160, 128, fine]}[len(size.channels) - 1]
        self.conv_in = nn.Conv2d(len(size.levels), widths[0], 3, padding=1)
        stages: list[nn.Module] = [ResnetBlock(widths[0], widths[0], groups) for _ in range(2)]
        for wide_in, wide_out in pairwise(widths):
            stages += [
                nn.Upsample(scale_factor=2.0, mode="nearest"),
                nn.Conv2d(wide_in, wide_out, 3, padding=1),
                ResnetBlock(wide_out, wide_out, groups),
                ResnetBlock(wide_out, wide_out, groups),
            ]
        self.stages = nn.Sequential(*stages)
        self.norm_out = nn.GroupNorm(groups, fine)
        self.conv_out = nn.Conv2d(fine, 48, 3, padding=1)

    def forward(self, codes: Tensor) -> Tensor:
        """Map codes [batch, embed, grid, grid] to pixels in about 0..1."""
        hidden = self.stages(self.conv_in(codes))
        return F.pixel_shuffle(self.conv_out(F.silu(self.norm_out(hidden))), 4) + 0.5


def picture_loss(drawn: Tensor, real: Tensor) -> Tensor:
    """Absolute and squared difference of pixels and of edges at two scales."""
    drawn = drawn.float()
    loss = (drawn - real).abs().mean() + 2 * (drawn - real).square().mean()
    for scale in (1, 2):
        if scale > 1:
            drawn, real = F.avg_pool2d(drawn, scale), F.avg_pool2d(real, scale)
        for axis in (2, 3):
            loss = loss + (drawn.diff(dim=axis) - real.diff(dim=axis)).abs().mean()
    return loss


def read_batch(
    pictures: Pictures, indices: NDArray[np.int64], size_px: int, device: str = "cpu"
) -> Tensor:
    """Read pictures in 0..1 [image, 3, size_px, size_px]; bytes travel, the device converts."""
    pixels = torch.from_numpy(pictures.pixels[indices]).to(device)
    pixels = pixels.permute(0, 3, 1, 2).float() / 255
    if size_px != pixels.shape[-1]:
        pixels = F.interpolate(pixels, (size_px, size_px), mode="area")
    return pixels


def vary_batch(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """Move most pictures of a batch, and give some of them another color."""
    count = len(pixels)
    is_still = rng.random(count) < 0.3
    scale = np.where(is_still, 1.0, rng.uniform(0.8, 1.08, count) * rng.choice([-1, 1], count))
    turn_deg = np.where(is_still, 0.0, rng.normal(0, 6, count))
    shift = np.where(is_still[:, None], 0.0, rng.uniform(-0.05, 0.05, (count, 2)))
    pixels = warp(pixels, scale.tolist(), turn_deg.tolist(), shift.tolist())
    for row in np.flatnonzero(rng.random(count) < 0.12):
        pixels[row] = recolor(pixels[row], str(rng.choice(list(COLOR_WORDS))))
    return pixels


def train(size: DetokenizerSize, num_steps: int, batch_size: int, device: str, out: Path) -> None:
    """Train until `num_steps`, from the checkpoint in `out` if one exists."""
    pictures = load_pictures()
    train_rows = np.flatnonzero(~pictures.is_held_out)
    test_rows = np.flatnonzero(pictures.is_held_out)[:128]
    torch.manual_seed(1)
    model = nn.ModuleDict({"encoder": ImageEncoder(size), "decoder": LightDecoder(size)})
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = TwoOptimizers(model, NOT_HIDDEN, muon_lr=0.02, adam_lr=2e-3)
    average, start = Average(model, 0.998), 0
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / "tokenizer_training.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        average.load_state_dict(saved["average"])
        start = saved["step"]

    def encode_decode(pixels: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(device.split(":")[0], torch.bfloat16):
            codes, tokens = quantize(model["encoder"](pixels), size.levels)
            return model["decoder"](codes), tokens

    def save(step: int) -> None:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
        torch.save({**state, "average": average.state_dict()}, checkpoint.with_suffix(".tmp"))
        checkpoint.with_suffix(".tmp").replace(checkpoint)
        encoder = {
            name.removeprefix("encoder."): value
            for name, value in average.shadow.items()
            if name.startswith("encoder.")
        }
        torch.save({"encoder": encoder, "size": asdict(size)}, out / "tokenizer.pt")

    since, losses = time.monotonic(), []
    for step in range(start, num_steps):
        rng = np.random.default_rng((1, step))
        rows = np.sort(rng.choice(train_rows, batch_size, replace=False))
        real = vary_batch(read_batch(pictures, rows, size.image_size_px, device), rng)
        real = real.contiguous(memory_format=torch.channels_last)
        optimizer.set_lr_scale(lr_scale(step, num_steps))
        loss = picture_loss(encode_decode(real)[0], real)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(model)
        losses.append(loss.item())
        if (step + 1) % 50 == 0:
            speed = len(losses) * batch_size / (time.monotonic() - since)
            print(f"step {step + 1} loss {np.mean(losses):.4f} {speed:.0f} images/s", flush=True)
            since, losses = time.monotonic(), []
        if (step + 1) % 250 == 0 or step + 1 == num_steps:
            save(step + 1)
            with torch.no_grad():
                real = read_batch(pictures, test_rows, size.image_size_px, device)
                drawn, tokens = encode_decode(real)
            error = (drawn.float().clamp(0, 1) - real).square().mean((1, 2, 3))
            psnr = float((-10 * error.log10()).mean())
            used = len(torch.unique(tokens))
            print(f"step {step + 1} held-out psnr {psnr:.2f} dB, {used} codes used", flush=True)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--grid", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=RUNS_DIR)
    options = parser.parse_args()
    size = DetokenizerSize.of_grid(options.grid)
    train(size, options.steps, options.batch_size, options.device, options.out)


if __name__ == "__main__":
    main()
