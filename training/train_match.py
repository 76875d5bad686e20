"""Train tiny_match, the packaged scorer: which text fits which picture, subject and style apart.

Takes the pictures without the held-out pairs; leaves `match.pt` and, with `--export`, the scorer's
weights in the package. It starts from random weights and shares none with the judges or the
critics. Each batch holds every subject in two styles, and its texts the same styles with other
subjects and the same subject in other colors: the negatives that are hard to tell. Resumable.

    python -m training.train_match --steps 6000 --export
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from promptlab.scores.tiny_match.network import MatchNetwork, MatchSize
from training.augment import BACKGROUNDS, COLOR_WORDS, recolor, set_background, warp
from training.captions import (
    PAD_TOKEN,
    Change,
    standard_caption,
    style_words,
    tokenize,
    write_caption,
)
from training.folders import PACKAGE_DIR, RUNS_DIR
from training.optimizer import TwoOptimizers, lr_scale
from training.pictures import Pictures
from training.rasterize import load_pictures
from training.sources import STYLES
from training.train_tokenizer import read_batch

WEIGHTS = PACKAGE_DIR.parents[1] / "scores" / "tiny_match" / "tiny_match.safetensors"
NOT_HIDDEN = ("words", "places", "questions", "log_scale", "trunk.0.", "palette.0.")
SEED = 24
NUM_OTHERS = 448  # texts of subjects that are not in the batch
NUM_OTHER_COLORS = 3  # texts of another color, for each picture that was recolored
COLOR_SHARE, BACKGROUND_SHARE = 0.25, 0.1
BLUR_SHARE, MAX_NOISE = 0.5, 0.04  # drawn pictures are soft and never quite clean
STYLELESS = len(STYLES)  # the style of a text that names none
FILLERS = ("small", "tilted", "mirrored", "huge", "upside down")  # words that are about neither


@dataclass(frozen=True)
class Texts:
    """The texts of one batch; the first belong to the pictures, in order."""

    tokens: NDArray[np.int64]  # [text, length]
    subject: NDArray[np.int64]  # [text]
    style: NDArray[np.int64]  # [text], STYLELESS without one
    change: tuple[Change, ...]


def draw_changes(count: int, rng: np.random.Generator) -> list[Change]:
    """Choose what is done to each picture that its text must name."""
    changes = []
    for share in rng.random(count):
        if share < COLOR_SHARE:
            changes.append(Change("color", str(rng.choice(list(COLOR_WORDS)))))
        elif share < COLOR_SHARE + BACKGROUND_SHARE:
            changes.append(Change("background", str(rng.choice(list(BACKGROUNDS)))))
        else:
            changes.append(Change())
    return changes


def write_text(
    pictures: Pictures, subject: int, style: int, change: Change, rng: np.random.Generator
) -> tuple[str, int]:
    """Write a caption; return it with the style that it names."""
    name, aliases = pictures.subjects[subject], pictures.aliases[subject]
    if rng.random() < 0.2:
        patterns = ("{}", "{} in the style of", "a picture of {}", "{} as a drawing", "{} emoji")
        text = str(rng.choice(patterns)).format(name)
        style = STYLELESS
        if change.kind == "color":
            text = f"{change.value} {text}"
        elif change.kind == "background":
            text = f"{text} on a {change.value} background"
    else:
        text = write_caption(name, aliases, STYLES[style], change, rng)
        if not names_style(text, style):
            style = STYLELESS
    if rng.random() < 0.08:
        text = f"{rng.choice(FILLERS)} {text}"
    return text, style


def names_style(text: str, style: int) -> bool:
    """Tell whether a caption has its style's name or look."""
    look = STYLES[style].phrase.split(" ", 1)[1].removeprefix("a ")
    return style_words(STYLES[style]) in text or look in text


def draw_texts(
    pictures: Pictures,
    vocabulary: dict[str, int],
    rows: NDArray[np.int64],
    changes: list[Change],
    rng: np.random.Generator,
) -> Texts:
    """Write the texts of a batch: its pictures', other subjects', other colors'."""
    wanted = [
        (int(pictures.subject[row]), int(pictures.style[row]), change)
        for row, change in zip(rows, changes, strict=True)
    ]
    styles = pictures.style[rows]
    for subject, style, change in wanted[: len(rows)]:
        if change.kind != "none":
            words = list(COLOR_WORDS if change.kind == "color" else BACKGROUNDS)
            words.remove(change.value)
            for word in rng.choice(words, NUM_OTHER_COLORS, replace=False):
                wanted.append((subject, style, Change(change.kind, str(word))))
    others = rng.choice(len(pictures.subjects), min(NUM_OTHERS, len(pictures.subjects)), False)
    wanted += [(int(other), int(rng.choice(styles)), Change()) for other in others]
    texts, named = zip(*(write_text(pictures, *each, rng) for each in wanted), strict=True)
    tokens = tokenize(texts, vocabulary)
    longest = int((tokens != PAD_TOKEN).sum(1).max())
    return Texts(
        tokens[:, :longest],
        np.array([subject for subject, _, _ in wanted]),
        np.array(named),
        tuple(change for _, _, change in wanted),
    )


def choose_rows(pictures: Pictures, rows: list[NDArray[np.int64]], count: int, rng: Any) -> Any:
    """Choose pictures so that every subject is there in two styles."""
    subjects = rng.choice(len(rows), count // 2, replace=False)
    return np.concatenate([rng.choice(rows[s], 2, replace=len(rows[s]) < 2) for s in subjects])


def show(
    pictures: Pictures, rows: NDArray[np.int64], changes: list[Change], rng: np.random.Generator
) -> Tensor:
    """Read pictures [image, 3, row, column], changed as said, moved, some blurred, with noise."""
    pixels = read_batch(pictures, rows, pictures.pixels.shape[1])
    for place, change in enumerate(changes):
        if change.kind == "color":
            pixels[place] = recolor(pixels[place], change.value)
        elif change.kind == "background":
            pixels[place] = set_background(pixels[place], change.value)
    count = len(rows)
    backgrounds = torch.tensor([change.kind == "background" for change in changes])
    moved = warp(
        pixels,
        (rng.uniform(0.85, 1.1, count) * rng.choice([-1, 1], count)).tolist(),
        rng.normal(0, 5, count).tolist(),
        rng.uniform(-0.06, 0.06, (count, 2)).tolist(),
    )
    pixels = torch.where(backgrounds[:, None, None, None], pixels, moved)  # warp leaves white
    if rng.random() < BLUR_SHARE:
        small = F.avg_pool2d(pixels, 2)
        pixels = F.interpolate(small, scale_factor=2.0, mode="bilinear", align_corners=False)
    generator = torch.Generator().manual_seed(int(rng.integers(1 << 31)))
    noise = torch.randn(pixels.shape, generator=generator)
    pixels = (pixels + noise * rng.uniform(0, MAX_NOISE)).clamp(0, 1)
    return pixels.contiguous(memory_format=torch.channels_last)


def subject_loss(logits: Tensor, texts: Texts, count: int) -> Tensor:
    """Cross-entropy of picture to text and of text to picture, subject and color alike."""
    subject = torch.from_numpy(texts.subject)
    values = [change.kind + change.value for change in texts.change]
    codes = {value: code for code, value in enumerate(dict.fromkeys(values))}
    change = torch.tensor([codes[value] for value in values])
    is_same = subject[:count, None] == subject[None]
    fits = is_same & (change[:count, None] == change[None])
    is_plain = torch.tensor([value == "none" for value in values])
    # "fox" is not wrong of a blue fox, nor "orange fox" of a fox as it is.
    is_open = is_same & ~fits & (is_plain[:count, None] | is_plain[None])
    logits = logits.masked_fill(is_open, -torch.inf)
    to_text = several_right(logits, fits)
    return to_text + 0.5 * several_right(logits[:, :count].T, fits[:, :count].T)


def several_right(logits: Tensor, fits: Tensor) -> Tensor:
    """Mean of minus the log of the share that goes to what fits."""
    right = logits.masked_fill(~fits, -torch.inf).logsumexp(1)
    return (logits.logsumexp(1) - right).mean()


def step_loss(
    model: MatchNetwork, pixels: Tensor, texts: Texts, styles: NDArray[np.int64]
) -> Tensor:
    """The loss of one batch; styles are learned from every other picture, which is enough."""
    with torch.autocast("cpu", torch.bfloat16):
        seen_subjects = model.subjects(pixels)
        seen_styles = model.styles(pixels[::2])
        text_subjects, text_styles = model.text(torch.from_numpy(texts.tokens), PAD_TOKEN)
    scale = model.log_scale.clamp(max=4.6).exp()
    logits = scale[0] * seen_subjects.float() @ text_subjects.float().T
    loss = subject_loss(logits, texts, len(pixels))
    logits = scale[1] * seen_styles.float() @ text_styles.float().T
    fits = torch.from_numpy(styles[::2, None] == texts.style[None])
    return loss + several_right(logits, fits)


def train(
    pictures: Pictures,
    num_steps: int,
    batch_size: int,
    out: Path,
    checkpoint_every: int = 200,
    size: MatchSize = MatchSize(),  # noqa: B008  frozen
) -> MatchNetwork:
    """Train until `num_steps`, from the checkpoint in `out` if one exists."""
    vocabulary = json.loads((PACKAGE_DIR / "vocab.json").read_text("utf-8"))
    torch.manual_seed(SEED)
    model = MatchNetwork(replace(size, num_words=max(vocabulary.values()) + 1))
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = TwoOptimizers(model, NOT_HIDDEN, 0.02, 2e-3, weight_decay=0.02)
    out.mkdir(parents=True, exist_ok=True)
    checkpoint, start, cpu_s = out / "match.pt", 0, 0.0
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location="cpu")
        model.load_state_dict(saved["weights"])
        optimizer.load_state_dict(saved["optimizer"])
        start, cpu_s = saved["steps"], saved["cpu_s"]
    kept = ~pictures.is_held_out
    rows = [np.flatnonzero(kept & (pictures.subject == s)) for s in range(len(pictures.subjects))]
    began, losses = time.process_time(), []
    for step in range(start, num_steps):
        rng = np.random.default_rng((SEED, step))
        chosen = choose_rows(pictures, rows, batch_size, rng)
        changes = draw_changes(batch_size, rng)
        texts = draw_texts(pictures, vocabulary, chosen, changes, rng)
        model.train()
        loss = step_loss(model, show(pictures, chosen, changes, rng), texts, pictures.style[chosen])
        loss.backward()
        optimizer.set_lr_scale(lr_scale(step, num_steps, num_warmup=50, decay_share=0.7))
        optimizer.step()
        losses.append(loss.item())
        if (step + 1) % checkpoint_every == 0 or step + 1 == num_steps:
            spent_s = cpu_s + time.process_time() - began
            state = {
                "weights": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "steps": step + 1,
                "cpu_s": spent_s,
            }
            torch.save(state, checkpoint.with_suffix(".tmp"))
            checkpoint.with_suffix(".tmp").replace(checkpoint)
            print(
                f"step {step + 1} loss {np.mean(losses):.3f}, {spent_s / 60:.1f} core-minutes",
                flush=True,
            )
            losses = []
    return model.eval()


@torch.no_grad()
def measure(model: MatchNetwork, pictures: Pictures, vocabulary: dict[str, int]) -> dict[str, Any]:
    """Retrieval on the real held-out pairs, and on their recolored versions."""
    rows = np.flatnonzero(pictures.is_held_out)
    pixels = read_batch(pictures, rows, pictures.pixels.shape[1])
    seen, style_seen = [], []
    for start in range(0, len(rows), 64):
        seen.append(model.subjects(pixels[start : start + 64]))
        style_seen.append(model.styles(pixels[start : start + 64]))
    subjects, _ = model.text(torch.from_numpy(tokenize(pictures.subjects, vocabulary)), PAD_TOKEN)
    names = [standard_caption("fox", style) for style in STYLES]
    _, styles = model.text(torch.from_numpy(tokenize(names, vocabulary)), PAD_TOKEN)
    logits = torch.cat(seen) @ subjects.T
    right = torch.from_numpy(pictures.subject[rows])
    rank = (logits > logits.gather(1, right[:, None])).sum(1)
    back = logits[:, right].T  # [text, image] of the held-out pairs
    back_rank = (back > back.diagonal()[:, None]).sum(1)
    named = (torch.cat(style_seen) @ styles.T).argmax(1)
    words = list(COLOR_WORDS)
    rng = np.random.default_rng(SEED)
    colors = rng.integers(len(words), size=len(rows))
    painted = torch.stack([recolor(p, words[c]) for p, c in zip(pixels, colors, strict=True)])
    painted_seen = torch.cat([model.subjects(part) for part in painted.split(64)])
    num_right = 0
    for place, row in enumerate(rows):
        name = pictures.subjects[pictures.subject[row]]
        texts = tokenize([f"{word} {name}" for word in words], vocabulary)
        vectors, _ = model.text(torch.from_numpy(texts), PAD_TOKEN)
        num_right += int((vectors @ painted_seen[place]).argmax()) == colors[place]
    scale = model.log_scale.clamp(max=4.6).exp()
    return {
        "pairs": len(rows),
        "subject_top1": float((rank == 0).float().mean()),
        "subject_top5": float((rank < 5).float().mean()),
        "image_top1": float((back_rank == 0).float().mean()),
        "image_top5": float((back_rank < 5).float().mean()),
        "style": float((named == torch.from_numpy(pictures.style[rows])).float().mean()),
        "color": num_right / len(rows),
        "subject_log_loss": float(F.cross_entropy(scale[0] * logits, right)),
        "scales": scale.tolist(),
    }


def export(model: MatchNetwork, path: Path) -> None:
    """Write the weights as float16, with the network's sizes."""
    from safetensors.torch import save_file

    tensors = {
        name: tensor.to(torch.float16).contiguous()
        for name, tensor in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    save_file(tensors, path, {"size": json.dumps(model.size.to_plain())})


def main() -> None:
    """Read the command line, train and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--out", type=Path, default=RUNS_DIR)
    parser.add_argument("--export", action="store_true", help="write the package's weights")
    options = parser.parse_args()
    pictures = load_pictures()
    model = train(pictures, options.steps, options.batch_size, options.out)
    vocabulary = json.loads((PACKAGE_DIR / "vocab.json").read_text("utf-8"))
    print(json.dumps(measure(model, pictures, vocabulary)))
    if options.export:
        export(model, WEIGHTS)
        print(f"{WEIGHTS}: {WEIGHTS.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
