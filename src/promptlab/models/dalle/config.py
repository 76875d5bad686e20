"""What a DALL·E-family model is made of: its sizes, its tokenizer, its defaults.

Takes and returns the `config.json` of a model folder. Knows no tensors; imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from promptlab.errors import ModelError
from promptlab.models.protocol import Parameter

CONFIG_FILE = "config.json"


@dataclass(frozen=True, slots=True)
class DetokenizerConfig:
    """Sizes of the network that turns image tokens into pixels (VQGAN's decoder)."""

    vocab_size: int  # rows of the embedding
    embed_width: int  # channels of one token's embedding
    channels: tuple[int, ...]  # per level, lowest resolution first
    blocks_per_level: int  # ResNet blocks a level
    attention_levels: tuple[int, ...]  # indices into `channels`: attention after each block
    mid_attention: bool  # attention between the two ResNet blocks before the first level
    norm_groups: int  # groups of every GroupNorm

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        object.__setattr__(self, "attention_levels", tuple(self.attention_levels))
        for width in self.channels:
            _expect(width % self.norm_groups == 0, "norm_groups must divide every channel count")
        _expect(len(self.channels) > 0, "channels must name at least one level")

    @property
    def upscale(self) -> int:
        """Pixels a token, along one side: every level but the last doubles the resolution."""
        return 2 ** (len(self.channels) - 1)


DEFAULT_STRENGTH = 0.5  # of a variation: the lower half is drawn anew


@dataclass(frozen=True, slots=True)
class Defaults:
    """Sampling parameters used where a request does not say otherwise."""

    temperature: float = 1.0
    top_k: int = 256
    supercondition_factor: float = 16.0


@dataclass(frozen=True, slots=True)
class DalleConfig:
    """Sizes of encoder and decoder, and what belongs to them."""

    name: str  # as in the column `model`
    num_encoder_layers: int
    num_decoder_layers: int
    width: int
    num_heads: int
    glu_width: int
    text_vocab_size: int
    text_length: int  # tokens of text, at most
    image_vocab_size: int  # tokens that may be sampled: the first rows of the logits
    image_embeddings: int  # rows of the decoder's embedding and of its logits
    start_token: int  # first input of the decoder
    image_grid: int  # image tokens a side
    detokenizer: DetokenizerConfig
    tokenizer: Literal["bpe", "word"]
    defaults: Defaults = Defaults()
    fingerprint: str = ""  # 16 hex digits over the weights' content; "" before they are written

    def __post_init__(self) -> None:
        if isinstance(self.detokenizer, Mapping):
            object.__setattr__(self, "detokenizer", _build(DetokenizerConfig, self.detokenizer))
        if isinstance(self.defaults, Mapping):
            object.__setattr__(self, "defaults", _build(Defaults, self.defaults))
        _expect(self.width % self.num_heads == 0, "num_heads must divide width")
        _expect(self.tokenizer in ("bpe", "word"), 'tokenizer must be "bpe" or "word"')
        _expect(self.start_token < self.image_embeddings, "start_token must be < image_embeddings")
        _expect(
            self.image_vocab_size <= self.image_embeddings,
            "image_vocab_size must be <= image_embeddings",
        )
        _expect(
            self.image_vocab_size <= self.detokenizer.vocab_size,
            "image_vocab_size must be <= detokenizer.vocab_size",
        )

    @property
    def num_image_tokens(self) -> int:
        """Tokens of one image: steps of the decoder."""
        return self.image_grid**2

    @property
    def image_size(self) -> int:
        """Side of an image in px."""
        return self.image_grid * self.detokenizer.upscale

    def parameters(self) -> dict[str, Parameter]:
        """Return the sampling parameters that the model accepts."""
        return {
            "temperature": Parameter(
                float,
                self.defaults.temperature,
                0.01,
                10.0,
                description="below 1: likelier tokens; above 1: more variety",
            ),
            "top_k": Parameter(
                int,
                self.defaults.top_k,
                1,
                self.image_vocab_size,
                description="tokens to choose among at each step; 1 is greedy",
            ),
            "supercondition_factor": Parameter(
                float,
                self.defaults.supercondition_factor,
                0.0,
                100.0,
                description="how strongly the prompt steers; 1 is plain, 0 ignores it",
            ),
            "strength": Parameter(
                float,
                DEFAULT_STRENGTH,
                0.0,
                1.0,
                is_for_source=True,
                description="share of a parent's rows that is drawn anew, from below; 1: all",
            ),
        }

    def to_json(self) -> str:
        """Return the text of config.json."""
        return json.dumps(asdict(self), indent=2) + "\n"


def read_config(folder: Path) -> DalleConfig:
    """Return the config of a model folder."""
    path = folder / CONFIG_FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"Expected a model folder with a {CONFIG_FILE} at {folder}, but: {error}"
        ) from error
    try:
        return _build(DalleConfig, data)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{path}: {error}") from error


def _build(cls: type[Any], data: Mapping[str, Any]) -> Any:
    names = {field.name for field in fields(cls)}
    if unknown := sorted(set(data) - names):
        raise ValueError(f"unknown fields {unknown}; expected {sorted(names)}")
    return cls(**data)


def _expect(is_met: bool, rule: str) -> None:
    if not is_met:
        raise ValueError(rule)


MIN_DALLE_DETOKENIZER = DetokenizerConfig(
    vocab_size=2**14,
    embed_width=256,
    channels=(512, 256, 256, 128, 128),
    blocks_per_level=3,
    attention_levels=(0,),
    mid_attention=True,
    norm_groups=32,
)

MIN_DALLE_MINI = DalleConfig(
    name="min_dalle_mini",
    num_encoder_layers=12,
    num_decoder_layers=12,
    width=1024,
    num_heads=16,
    glu_width=2730,
    text_vocab_size=50264,
    text_length=64,
    image_vocab_size=2**14,
    image_embeddings=16384 + 1,
    start_token=2**14 - 1,  # as min-dalle starts, although that token can be sampled too
    image_grid=16,
    detokenizer=MIN_DALLE_DETOKENIZER,
    tokenizer="bpe",
)

MIN_DALLE_MEGA = DalleConfig(
    name="min_dalle_mega",
    num_encoder_layers=24,
    num_decoder_layers=24,
    width=2048,
    num_heads=32,
    glu_width=4096,
    text_vocab_size=50272,
    text_length=64,
    image_vocab_size=2**14,
    image_embeddings=16415 + 1,
    start_token=2**14 - 1,
    image_grid=16,
    detokenizer=MIN_DALLE_DETOKENIZER,
    tokenizer="bpe",
)

CONFIG_FROM_SIZE = {"mini": MIN_DALLE_MINI, "mega": MIN_DALLE_MEGA}
