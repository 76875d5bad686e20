"""Train the detokenizer that is shipped: frozen codes back to clean pixels.

Takes the pictures and the frozen image encoder; leaves `detokenizer.pt` (checkpoint with averaged
weights). Learns pixels and edges first; from `--adversarial-from` on, a small patch discriminator
asks for crisp edges and flat fills. The codes never change here, so this can run before, beside and
after the transformer's training, and the result can be exchanged at any time.

    python -m training.train_detokenizer --steps 6000 --adversarial-from 4000
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from torch import Tensor, nn

from training.optimizer import Average, TwoOptimizers, lr_scale
from training.pixel_model import Detokenizer, DetokenizerSize, ImageEncoder, quantize
from training.rasterize import Pictures, load_pictures
from training.tokenize_images import apply_changes, draw_changes, load_encoder
from training.train_tokenizer import RUNS_DIR, picture_loss, read_batch

NOT_HIDDEN = ("conv_in", "conv_out", "post_quant_conv")
ADVERSARIAL_WEIGHT = 0.08


class PatchDiscriminator(nn.Module):
    """Judges patches of about 30 pixels: real drawing or not. Training only."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for wide_in, wide_out in ((width, 2 * width), (2 * width, 4 * width)):
            layers += [
                nn.Conv2d(wide_in, wide_out, 4, 2, 1),
                nn.GroupNorm(8, wide_out),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(4 * width, 1, 3, padding=1))

    def forward(self, pixels: Tensor) -> Tensor:
        """Map pixels in 0..1 [batch, 3, row, column] to one number a patch."""
        return self.layers(pixels * 2 - 1)


def draw_pixels(
    pictures: Pictures, rows: np.ndarray, size_px: int, device: str, rng: np.random.Generator
) -> Tensor:
    """Read pictures, two thirds of them changed as the transformer's are."""
    pixels = read_batch(pictures, rows, size_px, device)
    changed = np.flatnonzero(rng.random(len(rows)) < 0.67)
    pixels[changed] = apply_changes(pixels[changed], draw_changes(len(changed), rng), rng)
    return pixels


@torch.no_grad()
def codes_of(encoder: ImageEncoder, size: DetokenizerSize, pixels: Tensor) -> Tensor:
    """The code vectors of pictures [batch, embed, grid, grid]."""
    with torch.autocast(pixels.device.type, torch.bfloat16):
        return quantize(encoder(pixels), size.levels)[0]


def save_sheet(real: Tensor, drawn: Tensor, path: Path) -> None:
    """Write pairs of pictures, real above drawn, ten a row; what fills no row is left out."""
    both = torch.stack([real, drawn.float().clamp(0, 1)], 1)  # [image, 2, 3, row, column]
    both = both[: len(both) // 10 * 10]  # whole rows of ten
    rows = both.unflatten(0, (-1, 10)).permute(0, 2, 4, 1, 5, 3).flatten(0, 2).flatten(1, 2)
    Image.fromarray((rows.cpu().numpy() * 255).round().astype(np.uint8)).save(path)


def load_detokenizer(path: Path, device: str = "cpu") -> Detokenizer:
    """Read the averaged weights of a checkpoint."""
    saved = torch.load(path, map_location=device)
    model = Detokenizer(DetokenizerSize(**saved["size"]))
    model.load_state_dict({**model.state_dict(), **saved["average"]["shadow"]})
    return model.to(device).eval()


def train(num_steps: int, batch_size: int, adversarial_from: int, device: str, out: Path) -> None:
    """Train until `num_steps`, going on from the checkpoint if there is one."""
    pictures = load_pictures()
    encoder, size = load_encoder(out / "tokenizer.pt", device)
    train_rows = np.flatnonzero(~pictures.is_held_out)
    test_rows = np.flatnonzero(pictures.is_held_out)[:40]
    torch.manual_seed(6)
    model = Detokenizer(size).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    judge = PatchDiscriminator().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = TwoOptimizers(model, NOT_HIDDEN, muon_lr=0.02, adam_lr=2e-3)
    judge_optimizer = torch.optim.AdamW(judge.parameters(), lr=4e-4, betas=(0.5, 0.99))
    average, start = Average(model, 0.998), 0
    checkpoint = out / "detokenizer.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device)
        model.load_state_dict(saved["model"])
        if "optimizer" in saved:  # not in what training.unpack writes
            judge.load_state_dict(saved["judge"])
            optimizer.load_state_dict(saved["optimizer"])
            judge_optimizer.load_state_dict(saved["judge_optimizer"])
        average.load_state_dict(saved["average"])
        start = saved["step"]
    kind = device.split(":")[0]
    since, losses = time.monotonic(), []
    for step in range(start, num_steps):
        rng = np.random.default_rng((6, step))
        rows = np.sort(rng.choice(train_rows, batch_size, replace=False))
        real = draw_pixels(pictures, rows, size.image_size_px, device, rng)
        real = real.contiguous(memory_format=torch.channels_last)
        codes = codes_of(encoder, size, real)
        optimizer.set_lr_scale(lr_scale(step, num_steps))
        with torch.autocast(kind, torch.bfloat16):
            drawn = model.decode(codes)
        loss = picture_loss(drawn, real)
        losses.append(loss.item())
        if step >= adversarial_from:
            with torch.autocast(kind, torch.bfloat16):
                verdict = judge(drawn)
            loss = loss - ADVERSARIAL_WEIGHT * verdict.float().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(model)
        if step >= adversarial_from - 200:
            judge_optimizer.zero_grad()
            with torch.autocast(kind, torch.bfloat16):
                verdicts = judge(torch.cat([real, drawn.detach().clamp(-0.1, 1.1).float()])).float()
            on_real, on_drawn = verdicts.chunk(2)
            (F.relu(1 - on_real).mean() + F.relu(1 + on_drawn).mean()).backward()
            judge_optimizer.step()
        if (step + 1) % 50 == 0:
            speed = len(losses) * batch_size / (time.monotonic() - since)
            print(f"step {step + 1} loss {np.mean(losses):.4f} {speed:.0f} images/s", flush=True)
            since, losses = time.monotonic(), []
        if (step + 1) % 200 == 0 or step + 1 == num_steps:
            state = {
                "model": model.state_dict(),
                "judge": judge.state_dict(),
                "optimizer": optimizer.state_dict(),
                "judge_optimizer": judge_optimizer.state_dict(),
                "average": average.state_dict(),
                "step": step + 1,
                "size": asdict(size),
            }
            torch.save(state, checkpoint.with_suffix(".tmp"))
            checkpoint.with_suffix(".tmp").replace(checkpoint)
            real = read_batch(pictures, test_rows, size.image_size_px, device)
            shown = load_detokenizer(checkpoint, device)
            with torch.no_grad():
                drawn = shown.decode(codes_of(encoder, size, real)).clamp(0, 1)
            psnr = float((-10 * (drawn - real).square().mean((1, 2, 3)).log10()).mean())
            print(f"step {step + 1} held-out psnr {psnr:.2f} dB", flush=True)
            save_sheet(real, drawn, out / "detokenizer_sheet.png")
            since = time.monotonic()


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--adversarial-from", type=int, default=4000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=RUNS_DIR)
    options = parser.parse_args()
    train(options.steps, options.batch_size, options.adversarial_from, options.device, options.out)


if __name__ == "__main__":
    main()
