"""Same weights, same tokens: the engine's numbers are min-dalle's."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from promptlab.models.dalle import upstream
from promptlab.models.dalle.cache import Cache
from promptlab.models.dalle.config import MIN_DALLE_MINI, DalleConfig
from promptlab.models.dalle.decode import decode_block, decode_logits
from promptlab.models.dalle.detokenizer import load_detokenizer
from promptlab.models.dalle.encode import Ids, encode
from promptlab.models.dalle.network import Decoder, load_decoder, load_encoder
from promptlab.models.dalle.sampling import BlockSettings
from promptlab.models.dalle.strip_detokenizer import StripDetokenizer
from promptlab.models.dalle.texts import prepare_text
from promptlab.records import Request

SMALL = dataclasses.replace(
    MIN_DALLE_MINI,
    name="small",
    num_encoder_layers=2,
    num_decoder_layers=3,
    width=64,
    num_heads=4,
    glu_width=170,
    text_vocab_size=300,
)
PROMPTS: list[Ids] = [
    (0, 17, 18, 19, 2),
    (0, 2),
    (0, *range(100, 130), 2),
    (0, *range(40, 103)),  # cut at 64 tokens: the end is gone
]
FACTOR = 16.0


class Both:
    """min-dalle's modules and ours, with the same weights, set on the same prompts."""

    def __init__(self, config: DalleConfig, prompts: list[Ids]):
        self.config, self.prompts = config, prompts
        self.encoder, self.decoder, self.detokenizer = upstream.build_modules(config)
        with torch.inference_mode():
            tensors = upstream.named_tensors(self.encoder, self.decoder, self.detokenizer)
            ours = load_encoder(tensors, config, torch.float32, "cpu")
            self.ours: Decoder = load_decoder(tensors, config, torch.float32, "cpu")
        empty = [(ids[0], ids[-1]) for ids in prompts]
        self.states = encode(ours, [*empty, *prompts], 64)
        self.text_tokens = torch.ones((2 * len(prompts), 64), dtype=torch.int64)
        for row, ids in enumerate([*empty, *prompts]):
            self.text_tokens[row, : len(ids)] = torch.tensor(ids)

    def their_states(self) -> Tensor:
        """Return min-dalle's encoder states, two rows at a time as it runs them."""
        with torch.no_grad():
            return torch.cat([self.encoder(pair) for pair in self.text_tokens.split(2)])

    def their_logits(self, tokens: Tensor) -> Iterator[Tensor]:
        """Yield min-dalle's superconditioned logits at every step, given the tokens before."""
        num = len(self.prompts)
        states = self.their_states()
        mask = self.text_tokens.not_equal(1)[:, None, None, :]
        cache = torch.zeros(self.config.num_decoder_layers, num * 4, 256, self.config.width)
        previous = torch.full((num,), self.config.start_token)
        for step in range(256):
            with torch.no_grad():
                logits, cache = self.decoder(
                    mask, states, cache, previous[:, None], torch.tensor([step])
                )
            logits = logits[:, -1, : 2**14]
            yield logits[:num] * (1 - FACTOR) + logits[num:] * FACTOR
            previous = tokens[:, step]

    def our_logits(self, tokens: Tensor) -> Iterator[Tensor]:
        """Yield ours."""
        cache = Cache(self.ours, len(self.prompts))
        text = prepare_text(self.ours, self.prompts, self.states, 64)
        previous = torch.full((len(self.prompts),), self.config.start_token)
        for step in range(256):
            with torch.inference_mode():
                yield decode_logits(self.ours, cache, text, self.settings(), previous, step)
            previous = tokens[:, step]

    def settings(self, top_k: int = 1) -> BlockSettings:
        params = {"temperature": 1.0, "top_k": top_k, "supercondition_factor": FACTOR}
        requests = [Request(str(n), "", n, params) for n in range(len(self.prompts))]
        return BlockSettings.of(requests, 256)


@pytest.fixture(scope="module")
def small() -> Both:
    return Both(SMALL, PROMPTS)


def check_every_step(both: Both) -> None:
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(2**14, (len(both.prompts), 256), generator=generator)
    pairs = zip(both.our_logits(tokens), both.their_logits(tokens), strict=True)
    for step, (ours, theirs) in enumerate(pairs):
        error = (ours - theirs).abs().max() / (theirs.max() - theirs.min())
        assert error <= 1e-5, f"step {step}: {error}"


def check_greedy(both: Both) -> None:
    ours = decode_block(
        both.ours, Cache(both.ours, len(both.prompts)), both.prompts, both.states,
        both.settings(top_k=1), 64,
    )  # fmt: skip
    # Teacher-forced with our own tokens: equal argmax at every step is equal greedy decoding.
    for step, theirs in enumerate(both.their_logits(ours)):
        assert torch.equal(ours[:, step], theirs.argmax(-1)), f"step {step}"


def test_encoder_states_agree(small: Both) -> None:
    theirs = small.their_states()
    empty = [(ids[0], ids[-1]) for ids in small.prompts]
    for row, ids in enumerate([*empty, *small.prompts]):
        ours = small.states[ids][: len(ids)]
        assert torch.allclose(ours, theirs[row, : len(ids)], atol=1e-5), ids


def test_logits_agree_at_every_step(small: Both) -> None:
    check_every_step(small)


def test_greedy_decoding_gives_the_identical_tokens(small: Both) -> None:
    check_greedy(small)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_mini_agrees_at_every_step_and_greedily() -> None:
    both = Both(MIN_DALLE_MINI, PROMPTS[:2])
    check_every_step(both)
    check_greedy(both)


def test_pixels_agree_within_one_level(small: Both) -> None:
    tokens = torch.randint(2**14, (1, 256), generator=torch.Generator().manual_seed(3))
    theirs = their_pixels(small.detokenizer, tokens)
    tensors = upstream.named_tensors(small.encoder, small.decoder, small.detokenizer)
    network = load_detokenizer(tensors, SMALL, torch.float32, "cpu")
    assert theirs.float().std() > 1  # the images say something
    for ours in (network, StripDetokenizer(network)):
        difference = ours(tokens.view(1, 16, 16))[0].int() - theirs.int()
        assert difference.abs().max() <= 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_seamless_pixels_agree_within_one_level(small: Both) -> None:
    tokens = torch.randint(2**14, (4, 256), generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        theirs = small.detokenizer.forward(True, tokens).to(torch.uint8)
    tensors = upstream.named_tensors(small.encoder, small.decoder, small.detokenizer)
    detokenizer = StripDetokenizer(load_detokenizer(tensors, SMALL, torch.float32, "cpu"))
    # min-dalle lays a grid out column by column, we row by row.
    tiles = tokens.view(2, 2, 16, 16).permute(1, 2, 0, 3).reshape(1, 32, 32)
    assert (detokenizer(tiles)[0].int() - theirs.int()).abs().max() <= 1


def their_pixels(detokenizer: Any, tokens: Tensor) -> Tensor:
    with torch.no_grad():
        return detokenizer.forward(False, tokens).to(torch.uint8)


def test_importing_min_dalle_leaves_torch_as_it_was() -> None:
    import subprocess
    import sys

    code = (
        "import torch; torch.set_num_threads(1)\n"
        "from promptlab.models.dalle.upstream import import_min_dalle\n"
        "import_min_dalle()\n"
        "assert torch.is_grad_enabled() and torch.get_num_threads() == 1\n"
        # torch refuses to read its old switch of TF32 once the new one was set
        "torch.backends.cudnn.conv.fp32_precision = 'ieee'\n"
        "import_min_dalle()\n"
        "assert torch.backends.cudnn.conv.fp32_precision == 'ieee'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
