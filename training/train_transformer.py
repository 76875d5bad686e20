"""Train the transformer from text to image tokens: captions vary, tokens are made once.

Takes the shards of `tokenize_images`; leaves `transformer.pt` (a checkpoint to resume from, with
the averaged weights) and sample sheets beside it. Does not know about pixels except for the sheets.

    python -m training.train_transformer --steps 9000
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.captions import (
    END_TOKEN,
    PAD_TOKEN,
    START_TOKEN,
    build_vocabulary,
    standard_caption,
    tokenize,
    write_caption,
)
from training.folders import RUNS_DIR
from training.model import TextToTokens, TransformerSize
from training.optimizer import Average, TwoOptimizers, lr_scale
from training.pictures import Pictures
from training.pixel_model import DetokenizerSize, mark_style
from training.rasterize import load_pictures
from training.sources import STYLES
from training.tokenize_images import Shard

NOT_HIDDEN = ("embed_", "lm_head")
PLAIN_PICTURE_SHARE = 0.7
CAPTION_DROPOUT = 0.1
LABEL_SMOOTHING = 0.02
LOSS_ROWS = 256


class TokenLoss(torch.autograd.Function):
    """Cross-entropy whose gradient is made in the forward pass, in the logits' own precision.

    On a CPU this halves what the loss costs: the logits are the largest tensor of a step.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        """Mean cross-entropy of logits [row, code] and targets [row]; smoothing in the gradient."""
        total = torch.zeros((), device=logits.device)
        gradient = torch.empty_like(logits)
        rows = len(targets) if logits.is_cuda else LOSS_ROWS
        for start in range(0, len(targets), rows):  # pieces that stay in a core's cache
            part = slice(start, start + rows)
            log_probabilities = torch.log_softmax(logits[part], -1, dtype=torch.float32)
            chosen = log_probabilities.gather(1, targets[part, None])
            total -= chosen.sum()
            slope = log_probabilities.exp_().sub_(smoothing / logits.shape[1])
            slope.scatter_add_(1, targets[part, None], torch.full_like(chosen, smoothing - 1))
            gradient[part] = slope.mul_(1 / len(targets))
        ctx.save_for_backward(gradient)
        return total / len(targets)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        """Hand the gradient over."""
        (gradient,) = ctx.saved_tensors
        return gradient * grad_outputs[0].to(gradient.dtype), None, None


class CaptionedTokens:
    """Draws training batches: which picture, which version of it, which caption."""

    def __init__(
        self,
        pictures: Pictures,
        vocabulary: dict[str, int],
        size: DetokenizerSize,
        folder: Path,
    ) -> None:
        self.pictures = pictures
        self.vocabulary = vocabulary
        self.size = size
        self.folder = folder
        self.train_rows = np.flatnonzero(~pictures.is_held_out)
        self.shards: list[tuple[Shard, NDArray[np.int64]]] = []
        self.refresh()

    def refresh(self) -> None:
        """Take up shards that have appeared since."""
        for path in sorted(self.folder.glob("[0-9][0-9][0-9].npz"))[len(self.shards) :]:
            shard = Shard.load(path)
            place = np.full(len(self.pictures), -1)
            place[shard.row] = np.arange(len(shard.row))
            self.shards.append((shard, place))

    def draw(self, rows: NDArray[np.int64], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return text tokens [image, text token] and image tokens [image, token]."""
        captions, tokens = [], []
        for row in rows.tolist():
            is_plain = len(self.shards) == 1 or rng.random() < PLAIN_PICTURE_SHARE
            shard, place = self.shards[0 if is_plain else rng.integers(1, len(self.shards))]
            version = place[row]
            subject = self.pictures.subject[row]
            tokens.append(shard.tokens[version])
            captions.append(
                write_caption(
                    self.pictures.subjects[subject],
                    self.pictures.aliases[subject],
                    STYLES[self.pictures.style[row]],
                    shard.changes[version],
                    rng,
                )
            )
        text = tokenize(captions, self.vocabulary)
        is_dropped = rng.random(len(rows)) < CAPTION_DROPOUT
        text[is_dropped] = PAD_TOKEN
        text[is_dropped, :2] = (START_TOKEN, END_TOKEN)
        return trim(torch.from_numpy(text)), self._marked(np.stack(tokens), rows)

    def held_out(self, limit: int = 512) -> tuple[Tensor, Tensor]:
        """Text and tokens of pairs that training never sees."""
        rows = np.flatnonzero(self.pictures.is_held_out)[:limit]
        captions = [
            standard_caption(
                self.pictures.subjects[self.pictures.subject[row]], STYLES[self.pictures.style[row]]
            )
            for row in rows
        ]
        text = trim(torch.from_numpy(tokenize(captions, self.vocabulary)))
        return text, self._marked(self.shards[0][0].tokens[rows], rows)

    def _marked(self, codes: NDArray[np.int64], rows: NDArray[np.int64]) -> Tensor:
        """Tokens [image, token]: the codes, their first exchanged for the pictures' styles."""
        styles = torch.from_numpy(self.pictures.style[rows])
        return mark_style(torch.from_numpy(codes), styles, self.size)


def make_mistakes(
    tokens: Tensor, num_codes: int, max_share: float, rng: np.random.Generator
) -> Tensor:
    """Exchange some tokens of each row [image, token] for random ones, up to `max_share` of them.

    What the decoder reads is then not to be trusted, as it is not when it draws: it learns to go by
    the text more, and to draw on after a slip.
    """
    shares = rng.uniform(0, max_share, (len(tokens), 1))
    is_wrong = torch.from_numpy(rng.random(tuple(tokens.shape)) < shares)
    wrong = torch.from_numpy(rng.integers(0, num_codes, tuple(tokens.shape)))
    return torch.where(is_wrong, wrong, tokens)


def trim(text: Tensor) -> Tensor:
    """Cut padding that no row of the batch needs."""
    return text[:, : int((text != PAD_TOKEN).sum(1).max())]


def build_model(size: TransformerSize) -> TextToTokens:
    """A fresh model with small embeddings."""
    torch.manual_seed(3)
    model = TextToTokens(size)
    for name, param in model.named_parameters():
        if "embed_" in name:
            nn.init.normal_(param, std=0.5)
        elif "lm_head" in name:
            nn.init.normal_(param, std=size.width**-0.5 * 0.5)
    return model


def load_average(path: Path, device: str = "cpu") -> tuple[TextToTokens, dict[str, int]]:
    """Read the averaged weights of a checkpoint, ready to sample from, and the vocabulary."""
    saved = torch.load(path, map_location=device)
    model = TextToTokens(TransformerSize(**saved["size"]))
    model.load_state_dict(saved["average"]["shadow"])
    return model.to(device).eval(), saved["vocabulary"]


def train(
    pictures: Pictures,
    num_steps: int,
    batch_size: int,
    device: str,
    out: Path,
    dropout: float = 0.1,
    max_mistakes: float = 0.4,
    checkpoint_every: int = 250,
    peak_lr: float = 1.0,
    num_warmup: int = 200,
    decay_share: float = 0.3,
    **sizes: int,
) -> None:
    """Train until `num_steps`, from the checkpoint in `out` if one exists.

    A training that was interrupted and resumed ends with the weights of one that was not.
    `peak_lr` is a factor on both optimizers' learning rates, which rise over `num_warmup` steps and
    fall to zero over the last `decay_share` of them all. `sizes` are fields of TransformerSize that
    differ from its defaults.
    """
    vocabulary = build_vocabulary(pictures.subjects, pictures.aliases)
    grid = torch.load(out / "tokenizer.pt", map_location="cpu")["size"]["image_grid"]
    pixels = DetokenizerSize.of_grid(grid)
    data = CaptionedTokens(pictures, vocabulary, pixels, out / "shards")
    size = TransformerSize(
        text_vocab_size=max(vocabulary.values()) + 1,
        image_vocab_size=pixels.vocab_size,
        num_image_tokens=grid**2,
        dropout=dropout,
        **sizes,
    )
    model = build_model(size).to(device)
    optimizer = TwoOptimizers(model, NOT_HIDDEN, muon_lr=0.02, adam_lr=2e-3, weight_decay=0.01)
    average, start = Average(model, 0.999), 0
    checkpoint = out / "transformer.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device)
        model.load_state_dict(saved["model"])
        if "optimizer" in saved:  # not in what training.unpack writes
            optimizer.load_state_dict(saved["optimizer"])
        average.load_state_dict(saved["average"])
        start = saved["step"]
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, step {start}")
    steps_per_epoch = len(data.train_rows) // batch_size
    since, losses = time.monotonic(), []
    for step in range(start, num_steps):
        epoch, place = divmod(step, steps_per_epoch)
        if place == 0 or step == start:
            data.refresh()
            order = np.random.default_rng((4, epoch)).permutation(data.train_rows)
        torch.manual_seed(step)  # dropout is the same after a resume
        rows = order[place * batch_size : (place + 1) * batch_size]
        rng = np.random.default_rng((5, step))
        text, tokens = data.draw(rows, rng)
        seen = make_mistakes(tokens, size.image_vocab_size, max_mistakes, rng).to(device)
        text, tokens = text.to(device), tokens.to(device)
        with torch.autocast(device.split(":")[0], torch.bfloat16):
            logits = model(text, tokens, seen)
        loss = TokenLoss.apply(logits.flatten(0, 1), tokens.flatten(), LABEL_SMOOTHING)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.set_lr_scale(peak_lr * lr_scale(step, num_steps, num_warmup, decay_share))
        optimizer.step()
        average.update(model)
        losses.append(loss.detach())  # not .item(): a GPU works on while captions are written
        if (step + 1) % 50 == 0:
            speed = len(losses) * batch_size / (time.monotonic() - since)
            mean = float(torch.stack(losses).mean())
            print(
                f"step {step + 1} epoch {(step + 1) / steps_per_epoch:.2f} loss {mean:.4f} "
                f"{speed:.0f} images/s {len(data.shards)} shards",
                flush=True,
            )
            since, losses = time.monotonic(), []
        if (step + 1) % checkpoint_every == 0 or step + 1 == num_steps:
            state = {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "average": average.state_dict(),
                "step": step + 1,
                "size": asdict(size),
                "vocabulary": vocabulary,
            }
            torch.save(state, checkpoint.with_suffix(".tmp"))
            checkpoint.with_suffix(".tmp").replace(checkpoint)
        if (step + 1) % (2 * checkpoint_every) == 0 or step + 1 == num_steps:
            right, shuffled = measure(size, average, data, device)
            print(
                f"step {step + 1} held-out cross-entropy {right:.4f}, "
                f"with shuffled captions {shuffled:.4f}",
                flush=True,
            )
            since = time.monotonic()


@torch.no_grad()
def measure(
    size: TransformerSize, average: Average, data: CaptionedTokens, device: str
) -> tuple[float, float]:
    """Cross-entropy of the averaged weights on held-out pairs: captions right, and shuffled."""
    model = TextToTokens(replace(size, dropout=0.0)).to(device)
    model.load_state_dict(average.shadow)
    text, tokens = (tensor.to(device) for tensor in data.held_out())
    results = []
    for shown in (text, text.roll(7, 0)):
        losses = []
        for part in range(0, len(text), 128):
            with torch.autocast(device.split(":")[0], torch.bfloat16):
                logits = model(shown[part : part + 128], tokens[part : part + 128])
            targets = tokens[part : part + 128].flatten()
            losses.append(nn.functional.cross_entropy(logits.float().flatten(0, 1), targets))
        results.append(float(torch.stack(losses).mean()))
    return results[0], results[1]


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=9000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--max-mistakes", type=float, default=0.4)
    parser.add_argument("--peak-lr", type=float, default=1.0, help="factor on the learning rates")
    parser.add_argument("--warmup", type=int, default=200, help="steps")
    parser.add_argument("--decay-share", type=float, default=0.3, help="of the steps, at the end")
    parser.add_argument("--checkpoint-every", type=int, default=250)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=RUNS_DIR)
    options = parser.parse_args()
    train(
        load_pictures(),
        options.steps,
        options.batch_size,
        options.device,
        options.out,
        options.dropout,
        options.max_mistakes,
        options.checkpoint_every,
        options.peak_lr,
        options.warmup,
        options.decay_share,
    )


if __name__ == "__main__":
    main()
