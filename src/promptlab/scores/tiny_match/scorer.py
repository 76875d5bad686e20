"""tiny_match as a scorer: a share of belief in the prompt's subject, or in its style.

Takes prompts and pixels. The subject's score is the share that the prompt gets when all subjects
that the network knows compete with it, the style's when all ten styles do: 1 is "nothing else", and
what one is to a thousandth says how often it is right, as measured on real drawings. Words that the
network does not know are left out; a prompt without a known subject or style has no score.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from promptlab.errors import ConfigError, ModelError
from promptlab.models.dalle.tokenizer import PAD_ID, VOCAB_FILE, WordTokenizer
from promptlab.models.registry import packaged_words
from promptlab.scores.protocol import Embedder, Item, Scope, Score

if TYPE_CHECKING:
    from torch import Tensor

    from promptlab.scores.tiny_match.network import MatchNetwork

WEIGHTS = Path(__file__).with_name("tiny_match.safetensors")
BATCH = 16  # always so many at once: the last bits of a value do not depend on its neighbours
SYNONYM = 0.9  # texts whose vectors are this near mean the same and do not compete
FILLERS = "a an the of in on as picture drawing icon emoji background small huge two three four"
Kind = Literal["subject", "style"]
KINDS: tuple[Kind, ...] = ("subject", "style")


def read_tokenizer(text_length: int) -> WordTokenizer:
    """Return the embedded model's tokenizer: the words are the same."""
    file = packaged_words()["tiny/subjects"].with_name(VOCAB_FILE)
    return WordTokenizer(json.loads(file.read_text("utf-8")), text_length)


class Matcher:
    """The network on this machine's processor, and the texts that compete."""

    def __init__(self) -> None:
        from safetensors.torch import load_file, safe_open

        from promptlab.scores.tiny_match.network import MatchNetwork, MatchSize

        with safe_open(WEIGHTS, framework="pt") as file:
            size = MatchSize.from_plain(json.loads(file.metadata()["size"]))
        self.network: MatchNetwork = MatchNetwork(size).eval()
        weights = {name: tensor.float() for name, tensor in load_file(WEIGHTS).items()}
        self.network.load_state_dict(weights, strict=False)
        self.tokenizer = read_tokenizer(self.network.size.text_length)
        subjects = packaged_words()["tiny/subjects"].read_text("utf-8").splitlines()
        styles = json.loads(packaged_words()["tiny/subjects"].with_name("styles.json").read_text())
        self.subjects, _ = self.read(subjects)
        phrases = [style[key] for style in styles for key in ("phrase", "plain_phrase")]
        _, self.styles = self.read([phrase.format(prompt="fox") for phrase in phrases[::2]])
        _, self.no_style = self.read(["fox", "a picture of fox"])
        plain = [FILLERS, *(phrase.format(prompt="") for phrase in phrases)]
        self._is_filler = {i for text in plain for i in self.tokenizer.tokenize(text).ids}

    def names_subject(self, prompt: str) -> bool:
        """Tell whether a prompt has a word that the network knows and that is about a subject."""
        return not self._is_filler.issuperset(self.tokenizer.tokenize(prompt).ids)

    def read(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return the unit vectors of prompts: of their subjects, of their styles."""
        import torch

        found = [self.tokenizer.tokenize(prompt).ids for prompt in prompts]
        longest = max(map(len, found))
        tokens = torch.tensor([[*ids, *[PAD_ID] * (longest - len(ids))] for ids in found])
        with torch.inference_mode():
            subjects, styles = self.network.text(tokens, PAD_ID)
        return subjects, styles

    def see(self, kind: Kind, pixels: Sequence[np.ndarray]) -> Tensor:
        """Return the unit vectors [image, dim] of images of any sizes."""
        import torch
        from torch.nn import functional

        from promptlab.scores.tiny_match.network import shrink

        tower = self.network.subjects if kind == "subject" else self.network.styles
        side = self.network.size.style_px
        seen = []
        with torch.inference_mode():
            for start in range(0, len(pixels), BATCH):
                images = [
                    shrink(
                        torch.from_numpy(_square(each)).permute(2, 0, 1)[None].float() / 255, side
                    )
                    for each in pixels[start : start + BATCH]
                ]
                batch = torch.cat(images)
                padded = functional.pad(batch, (0, 0, 0, 0, 0, 0, 0, BATCH - len(batch)))
                seen.append(tower(padded)[: len(batch)])
        return torch.cat(seen)

    def share(self, kind: Kind, seen: Tensor, wanted: Tensor) -> list[float]:
        """Return which share each image [image, dim] gives its own text among all that compete."""
        import torch

        others = self.subjects if kind == "subject" else self.styles
        scale = self.network.log_scale[int(kind == "style")].clamp(max=4.6).exp()
        own = (seen * wanted).sum(1, keepdim=True)
        is_same = wanted @ others.T > SYNONYM
        against = (seen @ others.T).masked_fill(is_same, -torch.inf)
        logits = scale * torch.cat([own, against], 1)
        return logits.softmax(1)[:, 0].tolist()


def _square(pixels: np.ndarray) -> np.ndarray:
    """Return the middle of an image, as wide as high."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return np.array(pixels[top : top + side, left : left + side])


@functools.cache
def fingerprint() -> str:
    """Return the hash of the weights and of the words: 16 hex digits."""
    words = packaged_words()["tiny/subjects"].with_name(VOCAB_FILE).read_bytes()
    return hashlib.sha256(WEIGHTS.read_bytes() + words).hexdigest()[:16]


class TinyVectors:
    """What the network sees of an image: its vectors of the subject and of the style."""

    name = "tiny"

    def __init__(self) -> None:
        self._matcher: Matcher | None = None

    @property
    def fingerprint(self) -> str:
        """Hash of the weights and of the words: 16 hex digits."""
        return fingerprint()

    def load(self) -> None:
        """Read the weights."""
        self._matcher = Matcher()

    def unload(self) -> None:
        """Free the weights."""
        self._matcher = None

    def embed(self, pixels: Sequence[np.ndarray]) -> np.ndarray:
        """Return float32 [image, 160] of uint8 images of any sizes."""
        assert self._matcher is not None, "load() comes first"
        seen = [self._matcher.see(kind, pixels).numpy() for kind in KINDS]
        return np.concatenate(seen, axis=1)

    def read(self, prompts: Sequence[str]) -> np.ndarray:
        """Return float32 [text, 160]: what the prompts say of subjects; nothing of styles."""
        assert self._matcher is not None, "load() comes first"
        subjects, styles = self._matcher.read(prompts)
        return np.concatenate([subjects.numpy(), 0 * styles.numpy()], axis=1)


class TinyMatch:
    """How well an image shows the subject, or the style, that its prompt names."""

    is_higher_better = True
    bounds = (0.0, 1.0)
    scope: Scope = "image"
    embedder: Embedder | None = None

    def __init__(self, kind: Kind) -> None:
        if kind not in ("subject", "style"):
            raise ConfigError(f"tiny_match scores subject or style, got {kind!r}.")
        self.kind: Kind = kind
        self.name = f"tiny_{kind}"
        self._matcher: Matcher | None = None

    @property
    def fingerprint(self) -> str:
        """Hash of the weights and of the words: 16 hex digits."""
        return fingerprint()

    def load(self) -> None:
        """Read the weights."""
        self._matcher = Matcher()

    def unload(self) -> None:
        """Free the weights."""
        self._matcher = None

    def score(self, items: Sequence[Item]) -> list[Score]:
        """Return the share of each image; none for a prompt that names nothing known."""
        if self._matcher is None:
            raise ModelError("tiny_match is not loaded: call load() first.")
        matcher = self._matcher
        subjects, styles = matcher.read([item.row["prompt"] for item in items])
        wanted = subjects if self.kind == "subject" else styles
        seen = matcher.see(self.kind, [item.pixels for item in items if item.pixels is not None])
        shares = matcher.share(self.kind, seen, wanted)
        return [
            Score(share) if self._is_named(item, style) else Score()
            for item, share, style in zip(items, shares, styles, strict=True)
        ]

    def _is_named(self, item: Item, style: Tensor) -> bool:
        assert self._matcher is not None
        if self.kind == "style":
            best = float((self._matcher.styles @ style).max())
            return best > float((self._matcher.no_style @ style).max())
        return self._matcher.names_subject(item.row["prompt"])
