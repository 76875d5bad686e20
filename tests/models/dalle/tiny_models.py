"""Small seeded models of the real architecture, and requests for them."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping

import torch
from torch import Tensor

from promptlab.models.dalle.config import DalleConfig, Defaults, DetokenizerConfig
from promptlab.models.dalle.cpu_runner import CpuRunner
from promptlab.models.dalle.tokenizer import WordTokenizer
from promptlab.models.dalle.weights import expected_shapes
from promptlab.png import compress
from promptlab.records import Request, Result, Source

SPECIAL = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
VOCAB = {**SPECIAL, **{f"w{index}": index for index in range(4, 60)}}
PARAMS = {"temperature": 1.0, "top_k": 8, "supercondition_factor": 3.0}

TINY = DalleConfig(
    name="test",
    num_encoder_layers=1,
    num_decoder_layers=2,
    width=64,
    num_heads=4,
    glu_width=104,
    text_vocab_size=len(VOCAB),
    text_length=24,
    image_vocab_size=96,
    image_embeddings=97,
    start_token=96,
    image_grid=5,
    detokenizer=DetokenizerConfig(
        vocab_size=96,
        embed_width=16,
        channels=(24, 16, 8),
        blocks_per_level=2,
        attention_levels=(0,),
        mid_attention=True,
        norm_groups=4,
    ),
    tokenizer="word",
    defaults=Defaults(0.9, 8, 3.0),
)


def random_tensors(config: DalleConfig, seed: int = 0) -> dict[str, Tensor]:
    """Return seeded weights that keep activations near unit size."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in expected_shapes(config).items():
        noise = torch.randn(shape, generator=generator)
        if len(shape) == 1:
            tensors[name] = 0.1 * noise + (1.0 if name.endswith("weight") else 0.0)
        elif "embed" in name:
            tensors[name] = noise
        else:
            tensors[name] = noise / noise[0].numel() ** 0.5
    tensors["detokenizer.decoder.conv_out.bias"] += 0.5
    return tensors


def make_runner(
    config: DalleConfig = TINY,
    dtype: str = "float32",
    batch_size: int = 8,
    tensors: Mapping[str, Tensor] | None = None,
) -> CpuRunner:
    """Return a loaded model with seeded weights."""
    return CpuRunner(
        config,
        tensors or random_tensors(config),
        WordTokenizer(VOCAB, config.text_length),
        dtype,
        batch_size,
    )


def random_requests(num: int, seed: int) -> list[Request]:
    """Return requests of mixed prompts, lengths and parameters."""
    choose = random.Random(seed)
    words = [word for word in VOCAB if word not in SPECIAL]
    return [
        Request(
            f"{seed}-{index}",
            " ".join(choose.choices(words, k=choose.choice([0, 1, 5, 14, 15, 22, 40]))),
            choose.randrange(2**40),
            {
                "temperature": choose.choice([0.2, 1.0, 2.5]),
                "top_k": choose.choice([1, 3, 8, 96]),
                "supercondition_factor": choose.choice([0.0, 1.0, 3.0, 16.0]),
            },
        )
        for index in range(num)
    ]


def vary(request: Request, parent: Result, strength: float) -> Request:
    """Return the request drawn from an image, as the store would hand it out."""
    assert parent.pixels is not None
    png = compress(parent.pixels, parent.latent)
    return dataclasses.replace(
        request,
        params={**request.params, "strength": strength},
        source=Source(parent.request.image_id, "", png),
    )
