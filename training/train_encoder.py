"""Train an image encoder for a detokenizer that exists: the one part a model folder lacks.

Takes the pictures and `detokenizer.pt`, which stays as it is; leaves `tokenizer.pt`, as
`train_tokenizer` would. Its codes are the ones that the detokenizer draws, so a transformer that
was trained on them still fits. Resumable.

    python -m training.train_encoder --steps 800
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from training.folders import RUNS_DIR
from training.optimizer import Average, TwoOptimizers, lr_scale
from training.pictures import Pictures
from training.pixel_model import (
    Detokenizer,
    DetokenizerSize,
    ImageEncoder,
    quantize,
    vectors_of,
)
from training.rasterize import load_pictures
from training.train_detokenizer import load_detokenizer, save_sheet
from training.train_tokenizer import NOT_HIDDEN, picture_loss, read_batch, vary_batch


def encode_decode(
    encoder: ImageEncoder,
    detokenizer: Detokenizer,
    size: DetokenizerSize,
    pixels: Tensor,
    styles: Tensor,
) -> tuple[Tensor, Tensor]:
    """Pictures [image, 3, row, column] drawn again from codes and styles [image]; their codes."""
    with torch.autocast(pixels.device.type, torch.bfloat16):
        codes, tokens = quantize(encoder(pixels), size.levels)
        return detokenizer.decode(vectors_of(codes, styles, size)), tokens


@torch.no_grad()
def measure(
    encoder: ImageEncoder,
    detokenizer: Detokenizer,
    size: DetokenizerSize,
    real: Tensor,
    styles: Tensor,
) -> tuple[float, int, Tensor]:
    """Mean PSNR in dB over pictures, the number of codes in use, and what was drawn."""
    drawn, tokens = encode_decode(encoder, detokenizer, size, real, styles)
    drawn = drawn.float().clamp(0, 1)
    psnr = -10 * (drawn - real).square().mean((1, 2, 3)).log10()
    return float(psnr.mean()), len(torch.unique(tokens)), drawn


def train(
    pictures: Pictures,
    num_steps: int,
    batch_size: int,
    device: str,
    out: Path,
    checkpoint_every: int = 100,
) -> None:
    """Train until `num_steps`, from the checkpoint in `out` if one exists."""
    detokenizer = load_detokenizer(out / "detokenizer.pt", device).requires_grad_(False)
    detokenizer = detokenizer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    size = DetokenizerSize(**torch.load(out / "detokenizer.pt", map_location="cpu")["size"])
    styles = torch.from_numpy(pictures.style).to(device)
    train_rows = np.flatnonzero(~pictures.is_held_out)
    test_rows = np.flatnonzero(pictures.is_held_out)[:60]
    torch.manual_seed(2)
    model = ImageEncoder(size).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    shown = ImageEncoder(size).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = TwoOptimizers(model, NOT_HIDDEN, muon_lr=0.02, adam_lr=2e-3)
    average, start = Average(model, 0.995), 0
    checkpoint = out / "encoder_training.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        average.load_state_dict(saved["average"])
        start = saved["step"]
    since, losses = time.monotonic(), []
    for step in range(start, num_steps):
        rng = np.random.default_rng((7, step))
        rows = np.sort(rng.choice(train_rows, batch_size, replace=False))
        real = vary_batch(read_batch(pictures, rows, size.image_size_px, device), rng)
        real = real.contiguous(memory_format=torch.channels_last)
        optimizer.set_lr_scale(lr_scale(step, num_steps, num_warmup=30, decay_share=0.5))
        drawn, _ = encode_decode(model, detokenizer, size, real, styles[rows])
        loss = picture_loss(drawn, real)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(model)
        losses.append(loss.item())
        if (step + 1) % 20 == 0:
            speed = len(losses) * batch_size / (time.monotonic() - since)
            print(f"step {step + 1} loss {np.mean(losses):.4f} {speed:.1f} images/s", flush=True)
            since, losses = time.monotonic(), []
        if (step + 1) % checkpoint_every == 0 or step + 1 == num_steps:
            state = {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "average": average.state_dict(),
                "step": step + 1,
            }
            torch.save(state, checkpoint.with_suffix(".tmp"))
            checkpoint.with_suffix(".tmp").replace(checkpoint)
            torch.save({"encoder": average.shadow, "size": asdict(size)}, out / "tokenizer.pt")
            shown.load_state_dict(average.shadow)
            real = read_batch(pictures, test_rows, size.image_size_px, device)
            psnr, num_codes, drawn = measure(shown, detokenizer, size, real, styles[test_rows])
            print(
                f"step {step + 1} held-out psnr {psnr:.2f} dB, {num_codes} codes used", flush=True
            )
            save_sheet(real[:40], drawn[:40], out / "encoder_sheet.png")
            since = time.monotonic()


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=RUNS_DIR)
    options = parser.parse_args()
    train(load_pictures(), options.steps, options.batch_size, options.device, options.out)


if __name__ == "__main__":
    main()
