"""Train the detokenizer that is shipped: frozen codes and a style back to clean pixels.

Takes the pictures and the frozen image encoder; leaves `detokenizer.pt` (checkpoint with averaged
weights). Learns pixels and edges first; from `--adversarial-from` on, a small patch discriminator,
which is told the style, asks for its edges and fills. With `--critic-weight`, the critic that
`judge --only critic` leaves asks for a drawing that it knows the style of. The codes never change
here, so this can run before, beside and after the transformer's training, and the result can be
exchanged at any time. With `--drawn-share`, some tokens of each batch are not a real picture's but
drawn by the transformer (see `draw_tokens`): no real picture says what shall come of those, but the
critic does.

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

from training.draw_tokens import DRAWN_FILE, DrawnTokens
from training.judge import RECIPES, Judge, distort, load_judge
from training.optimizer import Average, TwoOptimizers, lr_scale
from training.pixel_model import (
    Detokenizer,
    DetokenizerSize,
    ImageEncoder,
    mark_style,
    quantize,
    style_of,
)
from training.rasterize import Pictures, load_pictures
from training.style_attention import look_at_style
from training.tokenize_images import apply_changes, draw_changes, load_encoder
from training.train_tokenizer import RUNS_DIR, picture_loss, read_batch

NOT_HIDDEN = ("conv_in", "conv_out", "post_quant_conv")
ADVERSARIAL_WEIGHT = 0.08
PAPER = 0.98  # from here on a color is white
DRAWN_PAPER = 0.9  # the same of a picture that no real one stands behind
FIRST_LOOK = 200  # pictures in which a fresh detokenizer finds the style


class PatchDiscriminator(nn.Module):
    """Judges patches of about 30 pixels: a real drawing of this style, or not. Training only.

    The style is asked for by projection (Miyato and Koyama 2018).
    """

    def __init__(self, num_styles: int, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for wide_in, wide_out in ((width, 2 * width), (2 * width, 4 * width)):
            layers += [
                nn.Conv2d(wide_in, wide_out, 4, 2, 1),
                nn.GroupNorm(8, wide_out),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*layers)
        self.verdict = nn.Conv2d(4 * width, 1, 3, padding=1)
        self.style = nn.Embedding(num_styles, 4 * width)
        nn.init.zeros_(self.style.weight)

    def forward(self, pixels: Tensor, styles: Tensor) -> Tensor:
        """Map pixels in 0..1 [batch, 3, row, column] and styles [batch] to a number a patch."""
        hidden = self.layers(pixels * 2 - 1)
        fit = (hidden * self.style(styles)[:, :, None, None]).sum(1, keepdim=True)
        return self.verdict(hidden) + fit


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


def ask_critic(
    critic: Judge, drawn: Tensor, real: Tensor, styles: Tensor, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """How unlike its style the critic finds each of `drawn` [batch, 3, row, column], and its paper.

    Returns cross-entropies [batch] and the mean tint of the paper, which the critic does not see:
    it must not be pleased by tinted paper, which is easier than the style. Paper is where the
    `real` pictures, which stand behind the first of the drawn ones, are white; behind the others
    stands none, so there it is what is drawn nearly white.
    """
    drawn = drawn.float()
    white = torch.cat([real > PAPER, drawn[len(real) :].detach() > DRAWN_PAPER])
    is_paper = white.all(1, keepdim=True)
    tint = (is_paper * (drawn - 1).abs()).mean()
    shown = torch.where(is_paper, 1.0, drawn.clamp(0, 1))
    shown = distort(shown, rng, RECIPES["critic"])
    with torch.autocast(drawn.device.type, torch.bfloat16):
        named = critic(shown.contiguous(memory_format=torch.channels_last))
    return F.cross_entropy(named.float(), styles, reduction="none"), tint


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
    """Train until `num_steps`, going on from the checkpoint if there is one.

    `peak_lr` is a factor on both optimizers' learning rates, `critic_weight` one on how unlike its
    style the critic (see `judge`) finds a drawn picture. `drawn_share` of each batch is tokens that
    the transformer drew.
    """
    if drawn_share and not critic_weight:
        raise ValueError("drawn_share: only a critic can say what shall come of drawn tokens")
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
    critic = load_judge("critic", out).to(device).requires_grad_(False) if critic_weight else None
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
        if critic is not None:
            unlikeness, tint = ask_critic(critic, drawn, real, styles, rng)
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
        "--critic-weight", type=float, default=0.0, help="0.03, say; wants `judge --only critic`"
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
