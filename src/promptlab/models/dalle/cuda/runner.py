"""Drawing on a CUDA device: captured decoding, and pixels drawn while the next block decodes.

Takes requests, yields results, as runner.Runner does. The host runs ahead of the device: a block's
graph replays are only queued, so the block before it can be detokenized on a second stream
meanwhile, in half precision, channels-last, in batches of one fixed shape.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from promptlab.models.batching import draw_in_batches, is_out_of_memory
from promptlab.models.dalle.cuda.graphs import GraphDecoder
from promptlab.models.dalle.decode import OnTokens
from promptlab.models.dalle.encode import Ids
from promptlab.models.dalle.runner import Runner, make_results
from promptlab.models.dalle.sampling import BlockSettings
from promptlab.models.dalle.tokenizer import TokenizedPrompt
from promptlab.records import Request, Result

log = logging.getLogger(__name__)

DETOKENIZE_TOGETHER = 16  # images in one batch of the detokenizer

Pending = TypeVar("Pending")


@dataclass(frozen=True)
class QueuedBlock:
    """A block whose tokens the device is still drawing."""

    requests: Sequence[Request]
    prompts: Sequence[TokenizedPrompt]
    tokens: Tensor  # int64 [image, step]
    is_decoded: torch.cuda.Event | None
    started: float


class CudaRunner(Runner):
    """A Runner whose decoding is captured, and whose detokenizing overlaps it."""

    _graphs: GraphDecoder | None = None
    _side: torch.cuda.Stream | None = None

    def draw(self, requests: Sequence[Request]) -> Iterator[Result]:
        """Yield one result a request; out of memory halves the block."""
        yield from draw_overlapped(
            requests, self.sizes.most(), self.queue_block, self.finish_block, self.draw_block
        )

    def queue_block(self, requests: Sequence[Request]) -> QueuedBlock:
        """Have a block's tokens drawn, without waiting for them."""
        started = time.perf_counter()
        prompts = [self.tokenizer.tokenize(request.prompt) for request in requests]
        tokens = self.decode(requests, [prompt.ids for prompt in prompts])
        event = None
        if tokens.is_cuda:
            event = torch.cuda.Event()
            event.record()
        return QueuedBlock(requests, prompts, tokens, event, started)

    def finish_block(self, block: QueuedBlock) -> list[Result]:
        """Return a queued block's results."""
        stream: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
        if block.is_decoded is not None:
            self._side = self._side or torch.cuda.Stream()
            self._side.wait_event(block.is_decoded)
            block.tokens.record_stream(self._side)
            stream = torch.cuda.stream(self._side)
        with stream:
            pixels = self.detokenize(block.tokens)  # waits for this stream, not for the other
        return make_results(block.requests, block.prompts, pixels, block.started)

    def detokenize(self, tokens: Tensor) -> np.ndarray:
        """Return uint8 [image, height, width, 3] of int64 [image, step]."""
        grid = self.config.image_grid
        tokens = tokens.clamp(max=self.config.detokenizer.vocab_size - 1)
        images = []
        for chunk in tokens.view(-1, grid, grid).split(DETOKENIZE_TOGETHER):
            missing = DETOKENIZE_TOGETHER - len(chunk)
            padded = torch.cat([chunk, chunk[-1:].expand(missing, -1, -1)])
            images.append(self.detokenizer(padded)[: len(chunk)])
        return torch.cat(images).cpu().numpy()

    def padded_size(self, num_images: int) -> int:
        """Return the size that is captured already, if so many images fit it."""
        if self._graphs is not None and self._graphs.num_images >= num_images:
            return self._graphs.num_images
        return self.sizes.fit(num_images)

    def decode_padded(
        self, prompts: Sequence[Ids], settings: BlockSettings, on_tokens: OnTokens | None
    ) -> Tensor:
        """Return the tokens of a whole block, padded to one of the sizes: int64 [image, step]."""
        states = self.states_for(prompts)
        try:
            if self._graphs is None or self._graphs.num_images != len(prompts):
                self._graphs = None  # freed before its successor is allocated
                self._graphs = GraphDecoder(self.decoder, len(prompts), self.config.text_length)
            return self._graphs.decode_block(prompts, states, settings, on_tokens)
        except Exception:
            self._graphs = None  # too large for the memory, or half captured
            raise


def draw_overlapped(
    requests: Sequence[Request],
    batch_size: int,
    queue: Callable[[Sequence[Request]], Pending],
    finish: Callable[[Pending], list[Result]],
    draw_block: Callable[[Sequence[Request]], list[Result]],
) -> Iterator[Result]:
    """Yield one result a request, each block finished while the next one is queued.

    A block that fails in either stage is drawn again by itself, in halves if memory ran out, one
    by one otherwise: nothing that was queued before it is lost.
    """
    waiting: deque[tuple[Sequence[Request], Pending]] = deque()
    start = 0
    while start < len(requests) or waiting:
        failed: tuple[Sequence[Request], Exception] | None = None
        if start < len(requests):
            block = requests[start : start + batch_size]
            start += len(block)
            try:
                waiting.append((block, queue(block)))
            except Exception as error:
                failed = (block, error)
        is_last = start >= len(requests)
        while waiting and (len(waiting) > 1 or is_last or failed):
            block, pending = waiting.popleft()
            try:
                results = finish(pending)
            except Exception as error:
                log.warning("Drawing %d images again: %s", len(block), error)
                results = list(draw_in_batches(block, max(1, len(block) // 2), draw_block))
            del pending
            yield from results
        if failed is not None:
            block, reason = failed
            if is_out_of_memory(reason) and len(block) > 1:
                batch_size = (len(block) + 1) // 2
                log.warning("Out of memory: going on with blocks of %d.", batch_size)
            yield from draw_in_batches(block, min(batch_size, len(block)), draw_block)
