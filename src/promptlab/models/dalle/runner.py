"""A model folder brought to a device, and requests drawn with it.

Takes requests, yields results: prompts → encoder states → image tokens → pixels, block by block.
Knows the device, the batch and the caches; not how a model is named, found or described.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Concatenate, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

from promptlab.errors import ModelError
from promptlab.models.batching import draw_in_batches
from promptlab.models.dalle.blocks import BlockSizes, default_batch_size
from promptlab.models.dalle.cache import Cache
from promptlab.models.dalle.config import DalleConfig
from promptlab.models.dalle.cpu.lanes import (
    BLOCK_IMAGES,
    MOST_LANES,
    WIDEST,
    CheckWanted,
    draw_side_by_side,
    map_side_by_side,
    one_thread,
)
from promptlab.models.dalle.decode import OnTokens, decode_block, empty_prompt
from promptlab.models.dalle.detokenizer import StripDetokenizer, load_detokenizer
from promptlab.models.dalle.encode import Ids, encode, padded_length
from promptlab.models.dalle.network import load_decoder, load_encoder
from promptlab.models.dalle.sampling import BlockSettings
from promptlab.models.dalle.tokenizer import TokenizedPrompt, Tokenizer
from promptlab.records import Request, Result

MAX_REMEMBERED_PROMPTS = 512

# (tokens so far, the requests drawn together, their images so far: uint8 [image, h, w, 3])
OnPreview = Callable[[int, Sequence[Request], np.ndarray], None]


Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")


def in_own_threads(
    method: Callable[Concatenate[Runner, Parameters], Answer],
) -> Callable[Concatenate[Runner, Parameters], Answer]:
    """Have a method of Runner compute in as many threads as its bits are made with."""

    @functools.wraps(method)
    def in_them(self: Runner, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Answer:
        with self.threads():
            return method(self, *args, **kwargs)

    return in_them


class Runner:
    """Weights on a device, one cache, and the states of recent prompts; the same again a lane."""

    def __init__(
        self,
        config: DalleConfig,
        tensors: Mapping[str, Tensor],
        tokenizer: Tokenizer,
        dtype: str = "float32",
        device: str = "cpu",
        batch_size: int | None = None,
    ):
        self.config, self.tokenizer, self.device = config, tokenizer, device
        self.dtype: torch.dtype = getattr(torch, dtype)
        with torch.inference_mode():
            self.encoder = load_encoder(tensors, config, self.dtype, device)
            self.decoder = load_decoder(tensors, config, self.dtype, device)
            network = load_detokenizer(tensors, config, self.dtype, device)
        self.has_lanes = device == "cpu" and config.width <= WIDEST
        num_threads = min(torch.get_num_threads(), MOST_LANES)
        num_lanes = num_threads if self.has_lanes else 1
        self.detokenizer: Callable[[Tensor], Tensor] = network
        self._detokenizers: list[StripDetokenizer] = []  # one a thread
        if device == "cpu":
            num_shares = 1 if self.has_lanes else num_threads
            self.detokenizer = strips = StripDetokenizer(network, num_shares)
            self._detokenizers = [strips.twin() for _ in range(num_shares)]
        largest = batch_size or default_batch_size(config, self.dtype, device, num_lanes)
        largest = min(largest, BLOCK_IMAGES) if self.has_lanes else largest
        self.sizes = BlockSizes(self.decoder, config.text_length, largest)
        self._cache: Cache | None = None
        self._states: OrderedDict[Ids, Tensor] = OrderedDict()
        self.lanes = [self._twin() for _ in range(num_lanes)] if self.has_lanes else []

    def draw(self, requests: Sequence[Request]) -> Iterator[Result]:
        """Yield one result a request; out of memory halves the block."""
        with self.threads():
            most = self.sizes.most()
            if self.lanes:
                lanes = [twin.draw_wanted for twin in self.lanes]
                yield from draw_side_by_side(requests, most, lanes)
            else:
                yield from draw_in_batches(requests, most, self.draw_block)

    def draw_wanted(
        self, requests: Sequence[Request], check_wanted: CheckWanted
    ) -> Sequence[Result]:
        """Draw a block as one of several lanes, asking at every token whether to go on."""

        def draw_batch(batch: Sequence[Request]) -> list[Result]:
            return self.draw_block(batch, lambda step, tokens: check_wanted())

        return list(draw_in_batches(requests, len(requests), draw_batch))

    def draw_with_previews(
        self, requests: Sequence[Request], on_preview: OnPreview, every: int
    ) -> Iterator[Result]:
        """Draw as `draw` does, and show the images so far every so many tokens."""

        def draw_batch(batch: Sequence[Request]) -> list[Result]:
            def on_tokens(num_tokens: int, tokens: Tensor) -> None:
                if num_tokens % every == 0 and num_tokens < self.config.num_image_tokens:
                    on_preview(num_tokens, batch, self.detokenize(tokens))

            return self.draw_block(batch, on_tokens)

        with self.threads():
            yield from draw_in_batches(requests, self.sizes.most(), draw_batch)

    @in_own_threads
    def draw_seamless(self, requests: Sequence[Request], num_columns: int) -> np.ndarray:
        """Return one picture of all requests, row by row, without seams between them.

        Their tokens are laid side by side before they become pixels, so that neighbours meet as
        if they were one image: uint8 [height, width, 3]. Unlike a result of `draw`, the picture
        depends on all its requests.
        """
        if len(requests) % num_columns:
            raise ModelError(
                f"Expected a whole number of rows of {num_columns}, got {len(requests)} requests."
            )
        grid, most = self.config.image_grid, self.sizes.most()
        batches = [requests[first : first + most] for first in range(0, len(requests), most)]
        tokens = torch.cat(
            [
                self.decode(batch, [self.tokenizer.tokenize(r.prompt).ids for r in batch])
                for batch in batches
            ]
        )
        tokens = tokens.view(-1, num_columns, grid, grid).transpose(1, 2)
        picture = self.detokenizer(tokens.reshape(1, -1, num_columns * grid))
        return picture[0].cpu().numpy()

    def draw_block(
        self, requests: Sequence[Request], on_tokens: OnTokens | None = None
    ) -> list[Result]:
        """Draw requests together and return their results in order."""
        started = time.perf_counter()
        prompts = [self.tokenizer.tokenize(request.prompt) for request in requests]
        tokens = self.decode(requests, [prompt.ids for prompt in prompts], on_tokens)
        return make_results(requests, prompts, self.detokenize(tokens), started)

    @in_own_threads
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
        padded = order + [order[-1]] * (self.padded_size(len(requests)) - len(requests))
        place = torch.tensor(np.argsort(order), device=self.device)
        settings = BlockSettings.of(
            [requests[index] for index in padded], self.config.num_image_tokens, self.device
        )
        report = on_tokens and (lambda step, tokens: on_tokens(step, tokens[place]))
        tokens = self.decode_padded([prompts[index] for index in padded], settings, report)
        return tokens[place]

    def padded_size(self, num_images: int) -> int:
        """Return the number of images that a block of so many is padded to."""
        return self.sizes.fit(num_images)

    def decode_padded(
        self, prompts: Sequence[Ids], settings: BlockSettings, on_tokens: OnTokens | None
    ) -> Tensor:
        """Return the tokens of a whole block, padded to one of the sizes: int64 [image, step]."""
        return decode_block(
            self.decoder,
            self._cache_for(len(prompts)),
            prompts,
            self.states_for(prompts),
            settings,
            self.config.text_length,
            on_tokens,
        )

    @in_own_threads
    def detokenize(self, tokens: Tensor) -> np.ndarray:
        """Return uint8 [image, height, width, 3] of int64 [image, step].

        On a CPU images are detokenized side by side, each by one thread: a tenth faster than one
        after the other by all of them. The one that may be left over is shared by all. The pixels
        are the same either way.
        """
        grid = self.config.image_grid
        # Before an image is whole, the start token stands for what is missing; it has no picture.
        tokens = tokens.clamp(max=self.config.detokenizer.vocab_size - 1)
        rows = [row.view(1, grid, grid) for row in tokens]
        lanes = self._detokenizers
        num_single = len(rows) - (len(lanes) > 1 and len(rows) % len(lanes) == 1) if lanes else 0
        images = map_side_by_side(lanes, rows[:num_single]) if num_single else []
        images += [self.detokenizer(row) for row in rows[num_single:]]
        return torch.cat(images).cpu().numpy()

    def _cache_for(self, num_images: int) -> Cache:
        if self._cache is None or self._cache.num_images < num_images:
            self._cache = None  # freed before its successor is allocated
            self._cache = Cache(self.decoder, num_images)
        return self._cache.narrowed(num_images)

    def states_for(self, prompts: Sequence[Ids]) -> Mapping[Ids, Tensor]:
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

    def threads(self) -> contextlib.AbstractContextManager[None]:
        """Return what computes in as many threads as this model's bits are made with."""
        return one_thread() if self.has_lanes else contextlib.nullcontext()

    def _twin(self) -> Runner:
        """Return a runner with the same weights and memory of its own."""
        twin = copy.copy(self)
        twin._cache, twin._states = None, OrderedDict()
        if isinstance(self.detokenizer, StripDetokenizer):
            twin.detokenizer = self.detokenizer.twin()
            twin._detokenizers = [twin.detokenizer]
        return twin


def make_results(
    requests: Sequence[Request],
    prompts: Sequence[TokenizedPrompt],
    pixels: np.ndarray,
    started: float,
) -> list[Result]:
    """Return the results of requests drawn together since `started` (perf_counter)."""
    seconds = (time.perf_counter() - started) / len(requests)
    return [
        Result(
            request,
            pixels=image,
            seconds=seconds,
            batch_size=len(requests),
            is_prompt_truncated=prompt.is_truncated,
            unseen=prompt.unseen,
        )
        for request, prompt, image in zip(requests, prompts, pixels, strict=True)
    ]
