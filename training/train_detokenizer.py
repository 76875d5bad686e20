"""Train the detokenizer that is shipped: frozen codes and a style back to clean pixels.

Takes the pictures and the frozen image encoder; leaves `detokenizer.pt` (checkpoint with averaged
weights). The loss is pixels and edges first; from `--adversarial-from` on, a small patch
discriminator, conditioned on the style, is added. `--critic-weight` adds the critics that `judge`
trains: they must recognize the style. The codes never change here, so this can run before, beside
and after the transformer's training. With `--drawn-share`, some tokens of each batch are drawn by
the transformer (see `draw_tokens`); these have no real picture, so only the critics judge them.

    python -m training.train_detokenizer --steps 6000 --adversarial-from 4000 --critic-weight 0.05
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

from training.critics import ADVERSARIAL_WEIGHT, PatchDiscriminator, ask_critics
from training.draw_tokens import DRAWN_FILE, DrawnTokens
from training.folders import RUNS_DIR
from training.judge import CRITICS, load_judge
from training.optimizer import Average, TwoOptimizers, lr_scale
from training.pictures import Pictures
from training.pixel_model import (
    Detokenizer,
    DetokenizerSize,
    ImageEncoder,
    mark_style,
    quantize,
    style_of,
)
from training.rasterize import load_pictures
from training.style_attention import look_at_style
from training.tokenize_images import apply_changes, draw_changes, load_encoder
from training.train_tokenizer import picture_loss, read_batch

NOT_HIDDEN = ("conv_in", "conv_out", "post_quant_conv")
FIRST_LOOK = 200  # pictures in which a fresh detokenizer finds the style


def draw_pixels(
    pictures: Pictures, rows: np.ndarray, size_px: int, device: str, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Read pictures, two thirds of them changed as the transformer's are.

    Also returns, for each, whether it still has its style's colors.
    """
    pixels = read_batch(pictures, rows, size_px, device)
    changed = np.flatnonzero(rng.random(len(rows)) < 0.67)
    changes = draw_changes(len(changed), rng)
    pixels[changed] = apply_changes(pixels[changed], changes, rng)
    keeps_colors = torch.ones(len(rows), dtype=torch.bool, device=device)
    is_painted = [change.kind in ("color", "background") for change in changes]
    keeps_colors[changed[is_painted]] = False
    return pixels, keeps_colors


@torch.no_grad()
def tokens_of(
    encoder: ImageEncoder, size: DetokenizerSize, pixels: Tensor, styles: Tensor
) -> Tensor:
    """The tokens [batch, token] of pictures and their styles [batch]."""
    with torch.autocast(pixels.device.type, torch.bfloat16):
        return mark_style(quantize(encoder(pixels), size.levels)[1], styles, size)


def paper_code(encoder: ImageEncoder, size: DetokenizerSize) -> int:
    """The code of an empty place: the commonest in a white picture."""
    device = next(encoder.parameters()).device
    white = torch.ones(1, 3, size.image_size_px, size.image_size_px, device=device)
    style = torch.zeros(1, dtype=torch.long, device=device)
    return int(tokens_of(encoder, size, white, style)[:, 1:].mode().values)


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


def train(
    num_steps: int,
    batch_size: int,
    adversarial_from: int,
    device: str,
    out: Path,
    peak_lr: float = 1.0,
    critic_weight: float = 0.0,
    drawn_share: float = 0.0,
) -> None:
    """Train until `num_steps`, from the checkpoint if one exists.

    `peak_lr` is a factor on both optimizers' learning rates, `critic_weight` one on how unlike its
    style the critics (see `judge`) find a drawn picture. `drawn_share` of each batch is tokens that
    the transformer drew.
    """
    if drawn_share and not critic_weight:
        raise ValueError("drawn_share: only critics can say what shall come of drawn tokens")
    pictures = load_pictures()
    all_styles = torch.from_numpy(pictures.style).to(device)
    encoder, size = load_encoder(out / "tokenizer.pt", device)
    train_rows = np.flatnonzero(~pictures.is_held_out)
    test_rows = np.flatnonzero(pictures.is_held_out)[:40]
    torch.manual_seed(6)
    model = Detokenizer(size).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    checkpoint = out / "detokenizer.pt"
    if not checkpoint.exists():
        rng = np.random.default_rng(6)
        rows = np.sort(rng.choice(train_rows, FIRST_LOOK, replace=False))
        real, _ = draw_pixels(pictures, rows, size.image_size_px, device, rng)
        look_at_style(model, tokens_of(encoder, size, real, all_styles[rows]))
        model.show_missing_as(paper_code(encoder, size))
    judge = PatchDiscriminator(size.num_styles).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    critics = [
        load_judge(kind, out).to(device).requires_grad_(False)
        for kind in (CRITICS if critic_weight else ())
    ]
    optimizer = TwoOptimizers(model, NOT_HIDDEN, muon_lr=0.02, adam_lr=2e-3)
    judge_optimizer = torch.optim.AdamW(judge.parameters(), lr=4e-4, betas=(0.5, 0.99))
    pool = DrawnTokens.load(out / DRAWN_FILE) if drawn_share else None
    num_drawn = round(drawn_share * batch_size)
    num_real = batch_size - num_drawn
    average, start = Average(model, 0.998), 0
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
    since, losses, unlikes = time.monotonic(), [], []
    for step in range(start, num_steps):
        rng = np.random.default_rng((6, step))
        rows = np.sort(rng.choice(train_rows, num_real, replace=False))
        real, keeps_colors = draw_pixels(pictures, rows, size.image_size_px, device, rng)
        real = real.contiguous(memory_format=torch.channels_last)
        styles = all_styles[rows]
        tokens = tokens_of(encoder, size, real, styles)
        if pool is not None:
            some = pool.choose(num_drawn, rng).to(device)
            tokens = torch.cat([tokens, some])
            styles = torch.cat([styles, style_of(some, size)])
            keeps_colors = F.pad(keeps_colors, (0, num_drawn), value=True)
        optimizer.set_lr_scale(peak_lr * lr_scale(step, num_steps))
        with torch.autocast(kind, torch.bfloat16):
            drawn = model(tokens)
        loss = picture_loss(drawn[:num_real], real)
        losses.append(loss.item())
        if step >= adversarial_from:
            with torch.autocast(kind, torch.bfloat16):
                verdict = judge(drawn, styles)
            loss = loss - ADVERSARIAL_WEIGHT * verdict.float().mean()
        if critics:
            unlikeness, tint = ask_critics(critics, drawn, real, styles, rng)
            unlikeness = unlikeness * keeps_colors
            loss = loss + tint
            unlike = unlikeness.sum() / keeps_colors.sum().clamp(min=1)
            unlikes.append(unlike.item())
            loss = loss + critic_weight * unlike
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(model)
        if step >= adversarial_from - 200:
            judge_optimizer.zero_grad()
            with torch.autocast(kind, torch.bfloat16):
                both = torch.cat([real, drawn.detach().clamp(-0.1, 1.1).float()])
                verdicts = judge(both, torch.cat([styles[:num_real], styles])).float()
            on_real, on_drawn = verdicts[:num_real], verdicts[num_real:]
            (F.relu(1 - on_real).mean() + F.relu(1 + on_drawn).mean()).backward()
            judge_optimizer.step()
        if (step + 1) % 50 == 0:
            speed = len(losses) * batch_size / (time.monotonic() - since)
            picture, style = np.mean(losses), np.mean(unlikes or [0.0])
            print(
                f"step {step + 1} loss {picture:.4f} unlike {style:.3f} {speed:.1f} images/s",
                flush=True,
            )
            since, losses, unlikes = time.monotonic(), [], []
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
            averaged = load_detokenizer(checkpoint, device)
            with torch.no_grad():
                drawn = averaged(tokens_of(encoder, size, real, all_styles[test_rows])).clamp(0, 1)
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
    parser.add_argument("--peak-lr", type=float, default=1.0, help="factor on the learning rates")
    parser.add_argument(
        "--critic-weight", type=float, default=0.0, help="0.05, say; wants `judge`'s critics"
    )
    parser.add_argument(
        "--drawn-share", type=float, default=0.0, help="0.5, say; wants `draw_tokens`"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=RUNS_DIR)
    options = parser.parse_args()
    train(
        options.steps,
        options.batch_size,
        options.adversarial_from,
        options.device,
        options.out,
        options.peak_lr,
        options.critic_weight,
        options.drawn_share,
    )


if __name__ == "__main__":
    main()
