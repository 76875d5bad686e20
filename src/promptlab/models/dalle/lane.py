"""One block at a time on a CPU: prompts → states → image tokens → pixels.

Takes the requests of a block, returns their results. Lanes share the weights. The cache, the states
of recent prompts and the detokenizer's buffers are a lane's own, so threads run lanes side by side.
Knows neither how requests become blocks nor how many lanes exist.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from promptlab.models.batching import draw_in_batches
from promptlab.models.dalle.blocks import BlockSizes
from promptlab.models.dalle.cache import Cache
from promptlab.models.dalle.config import DalleConfig
from promptlab.models.dalle.cpu.lanes import CheckWanted
from promptlab.models.dalle.decode import OnTokens, decode_block
from promptlab.models.dalle.encode import Ids, PromptStates, padded_length
from promptlab.models.dalle.network import Decoder
from promptlab.models.dalle.sampling import BROKEN, BlockSettings
from promptlab.models.dalle.strip_detokenizer import ImagesDetokenizer
from promptlab.models.dalle.tokenizer import TokenizedPrompt, Tokenizer
from promptlab.models.dalle.variations import pack_tokens
from promptlab.records import Request, Result

NOT_FINITE = "the model computed numbers that are not finite; dtype=float32 has the widest range"


class Lane:
    """A decoder's cache, the states of recent prompts and a detokenizer."""

    def __init__(
        self,
        config: DalleConfig,
        tokenizer: Tokenizer,
        decoder: Decoder,
        states: PromptStates,
        detokenizer: ImagesDetokenizer,
        sizes: BlockSizes,
    ):
        self.config, self.tokenizer, self.decoder = config, tokenizer, decoder
        self.states, self.detokenizer, self.sizes = states, detokenizer, sizes
        self.cache: Cache | None = None

    def draw_wanted(
        self, requests: Sequence[Request], check_wanted: CheckWanted
    ) -> Sequence[Result]:
        """Draw a block, asking at every token whether its results are still wanted."""

        def draw_batch(batch: Sequence[Request]) -> list[Result]:
            return self.draw_block(batch, lambda step, tokens: check_wanted())

        return list(draw_in_batches(requests, len(requests), draw_batch))

    def draw_block(
        self, requests: Sequence[Request], on_tokens: OnTokens | None = None
    ) -> list[Result]:
        """Draw requests together and return their results in order."""
        started = time.perf_counter()
        prompts = [self.tokenizer.tokenize(request.prompt) for request in requests]
        tokens = self.decode(requests, [prompt.ids for prompt in prompts], on_tokens)
        pixels = self.detokenizer.pixels(tokens).numpy()
        seconds = time.perf_counter() - started
        return make_results(
            requests, prompts, tokens.numpy(), pixels, seconds, self.config.fingerprint
        )

    def decode(
        self,
        requests: Sequence[Request],
        prompts: Sequence[Ids],
        on_tokens: OnTokens | None = None,
    ) -> Tensor:
        """Return the image tokens of requests: int64 [image, step], in their order."""
        # Texts of equal padded length lie side by side; padding repeats the last request.
        lengths = [padded_length(len(ids), self.config.text_length) for ids in prompts]
        order = sorted(range(len(requests)), key=lengths.__getitem__)
        num_missing = self.sizes.fit(len(requests)) - len(requests)
        padded = order + [order[-1]] * num_missing
        place = torch.from_numpy(np.argsort(order))
        padded_prompts = [prompts[index] for index in padded]
        settings = BlockSettings.of([requests[index] for index in padded], self.decoder.num_steps)
        report = on_tokens and (lambda step, tokens: on_tokens(step, tokens[place]))
        cache = self._cache_for(len(padded))
        states = self.states.of(padded_prompts)
        tokens = decode_block(
            self.decoder, cache, padded_prompts, states, settings, self.config.text_length, report
        )
        if (tokens == BROKEN).any():
            cache.clear()  # a number that is not finite would pass the next block's mask
        return tokens[place]

    def _cache_for(self, num_images: int) -> Cache:
        if self.cache is None or self.cache.num_images < num_images:
            self.cache = None  # freed before its successor is allocated
            self.cache = Cache(self.decoder, num_images)
        return self.cache.narrowed(num_images)


def make_results(
    requests: Sequence[Request],
    prompts: Sequence[TokenizedPrompt],
    tokens: np.ndarray,  # int64 [image, step]
    pixels: np.ndarray,  # uint8 [image, height, width, 3]
    seconds: float,
    fingerprint: str,
) -> list[Result]:
    """Return the results of requests that took `seconds` together.

    An image with a step whose numbers were not finite is an error, and has no pixels.
    """
    is_broken = (tokens == BROKEN).any(1)
    return [
        Result(
            request,
            pixels=None if broken else image,
            error=NOT_FINITE if broken else None,
            seconds=seconds / len(requests),
            batch_size=len(requests),
            is_prompt_truncated=prompt.is_truncated,
            unseen=prompt.unseen,
            latent=b"" if broken else pack_tokens(fingerprint, own_tokens),
        )
        for request, prompt, image, own_tokens, broken in zip(
            requests, prompts, pixels, tokens, is_broken, strict=True
        )
    ]
