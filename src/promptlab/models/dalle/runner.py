"""A model folder brought to a device, and requests drawn with it.

Takes requests, yields results: prompts → encoder states → image tokens → pixels, block by block.
Knows the device, the batch and the caches; not how a model is named, found or described.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from promptlab.models.batching import draw_in_batches
from promptlab.models.dalle.blocks import BlockSizes, default_batch_size
from promptlab.models.dalle.config import DalleConfig
from promptlab.models.dalle.decode import Cache, OnTokens, decode_block, empty_prompt
from promptlab.models.dalle.detokenizer import load_detokenizer
from promptlab.models.dalle.encode import Ids, encode, padded_length
from promptlab.models.dalle.network import load_decoder, load_encoder
from promptlab.models.dalle.sampling import Settings
from promptlab.models.dalle.tokenizer import TokenizedPrompt, open_tokenizer
from promptlab.models.dalle.weights import open_tensors
from promptlab.records import Request, Result

MAX_REMEMBERED_PROMPTS = 512

OnPreview = Callable[[int, list[Result]], None]  # (tokens so far, images so far)


class Runner:
    """Weights on a device, one cache, and the states of recent prompts."""

    def __init__(
        self, config: DalleConfig, folder: Path, dtype: str, device: str, batch_size: int | None
    ):
        self.config, self.device = config, device
        self.dtype: torch.dtype = getattr(torch, dtype)
        self.tokenizer = open_tokenizer(folder, config.tokenizer, config.text_length)
        with open_tensors(folder) as tensors, torch.inference_mode():
            self.encoder = load_encoder(tensors, config, self.dtype, device)
            self.decoder = load_decoder(tensors, config, self.dtype, device)
            self.detokenizer = load_detokenizer(tensors, config, self.dtype, device)
        largest = batch_size or default_batch_size(config, self.dtype, device)
        self.sizes = BlockSizes(self.decoder, config.text_length, largest)
        self._cache: Cache | None = None
        self._states: OrderedDict[Ids, Tensor] = OrderedDict()

    def draw(self, requests: Sequence[Request]) -> Iterator[Result]:
        """Yield one result a request; out of memory halves the block."""
        yield from draw_in_batches(requests, self.sizes.most(), self.draw_block)

    def draw_block(
        self, requests: Sequence[Request], on_tokens: OnTokens | None = None
    ) -> list[Result]:
        """Draw requests together and return their results in order."""
        started = time.perf_counter()
        prompts = [self.tokenizer.tokenize(request.prompt) for request in requests]
        tokens = self.decode(requests, [prompt.ids for prompt in prompts], on_tokens)
        pixels = self.detokenize(tokens)
        seconds = (time.perf_counter() - started) / len(requests)
        return [
            _result(request, prompt, image, seconds, len(requests))
            for request, prompt, image in zip(requests, prompts, pixels, strict=True)
        ]

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
        padded = order + [order[-1]] * (self.sizes.fit(len(requests)) - len(requests))
        place = torch.tensor(np.argsort(order), device=self.device)
        settings = Settings.of(
            [requests[index] for index in padded], self.config.num_image_tokens, self.device
        )
        report = on_tokens and (lambda step, tokens: on_tokens(step, tokens[place]))
        tokens = decode_block(
            self.decoder,
            self._cache_for(len(padded)),
            [prompts[index] for index in padded],
            self._states_for(prompts),
            settings,
            self.config.text_length,
            report,
        )
        return tokens[place]

    def detokenize(self, tokens: Tensor) -> np.ndarray:
        """Return uint8 [image, height, width, 3] of int64 [image, step]."""
        grid = self.config.image_grid
        images = [self.detokenizer(row.view(1, grid, grid)) for row in tokens]
        return torch.cat(images).cpu().numpy()

    def _cache_for(self, num_images: int) -> Cache:
        if self._cache is None or self._cache.num_images != num_images:
            self._cache = None  # freed before its successor is allocated
            self._cache = Cache(self.decoder, num_images)
        return self._cache

    def _states_for(self, prompts: Sequence[Ids]) -> Mapping[Ids, Tensor]:
        """Return the encoder's states of prompts and their empty prompts."""
        wanted = dict.fromkeys([*map(empty_prompt, prompts), *prompts])
        new = [ids for ids in wanted if ids not in self._states]
        self._states.update(encode(self.encoder, new, self.config.text_length, self.device))
        for ids in wanted:
            self._states.move_to_end(ids)
        states = {ids: self._states[ids] for ids in wanted}
        while len(self._states) > MAX_REMEMBERED_PROMPTS:
            self._states.popitem(last=False)
        return states


def _result(
    request: Request, prompt: TokenizedPrompt, pixels: np.ndarray, seconds: float, batch_size: int
) -> Result:
    return Result(
        request,
        pixels=pixels,
        seconds=seconds,
        batch_size=batch_size,
        is_prompt_truncated=prompt.is_truncated,
        unseen=prompt.unseen,
    )
