"""Drawing on a CUDA device: captured decoding, and pixels computed while the next block decodes.

Takes requests, yields results, as runner.Runner asks. The host runs ahead of the device: a block is
only queued, and the block before it is detokenized on a second stream meanwhile. Knows nothing of
how failures are handled (overlap.py) or how large a block is (sizes.py).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from promptlab.errors import ModelError, ModelLostError
from promptlab.models.batching import describe_error, is_lost, is_out_of_memory
from promptlab.models.dalle.config import DalleConfig
from promptlab.models.dalle.cuda import memory, sizes
from promptlab.models.dalle.cuda.exact import attention_is_exact
from promptlab.models.dalle.cuda.graphs import GraphDecoder
from promptlab.models.dalle.cuda.overlap import draw_overlapped
from promptlab.models.dalle.decode import OnTokens
from promptlab.models.dalle.detokenizer import clamp_tokens, load_detokenizer, to_pixels
from promptlab.models.dalle.encode import Ids, PromptStates
from promptlab.models.dalle.lane import make_results
from promptlab.models.dalle.network import load_decoder, load_encoder
from promptlab.models.dalle.precision import exact_arithmetic
from promptlab.models.dalle.runner import Runner
from promptlab.models.dalle.sampling import BROKEN, BlockSettings
from promptlab.models.dalle.tokenizer import TokenizedPrompt, Tokenizer
from promptlab.models.dalle.transfer import to_host
from promptlab.models.machine import device_memory
from promptlab.records import Request, Result

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class QueuedBlock:
    """A block whose tokens the device is computing."""

    requests: Sequence[Request]
    prompts: Sequence[TokenizedPrompt]
    tokens: Tensor  # int64 [image, step]
    is_decoded: torch.cuda.Event


class CudaRunner(Runner):
    """The weights on a CUDA device, one captured decoder, and a stream for the detokenizer."""

    def __init__(
        self,
        config: DalleConfig,
        tensors: Mapping[str, Tensor],
        tokenizer: Tokenizer,
        dtype: str = "float16",
        batch_size: int | None = None,
    ):
        """Bring weights to the device.

        Raises ModelError if the card is too small, or if other programs leave too little of its
        memory for the weights and for a batch of pixels.
        """
        super().__init__(config, tokenizer, getattr(torch, dtype))
        self.padded = sizes.padded_images(config, self.dtype, device_memory())
        self._most = min(batch_size or sizes.MOST_IMAGES, self.padded)
        self._graphs: GraphDecoder | None = None
        self._side = torch.cuda.Stream()
        try:
            self._load(tensors)
            return
        except Exception as error:
            if is_lost(error):
                raise ModelLostError(f"The GPU stopped: {describe_error(error)}.") from error
            if not is_out_of_memory(error):
                raise
        memory.release_unused()  # here: the traceback held what was loaded
        free = memory.free_bytes()
        raise ModelError(sizes.describe_too_full(config, self.dtype, free, device_memory()))

    @torch.inference_mode()
    def _load(self, tensors: Mapping[str, Tensor]) -> None:
        """Load the weights, and compute a batch of pixels, so that their memory is known to fit."""
        with exact_arithmetic():
            encoder = load_encoder(tensors, self.config, self.dtype, "cuda")
            decoder = load_decoder(tensors, self.config, self.dtype, "cuda")
            detokenizer = load_detokenizer(tensors, self.config, self.dtype, "cuda")
            self.shapes_vary = attention_is_exact(decoder)
            self._side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._side):  # whose memory later batches use again
                grid = self.config.image_grid
                shape = sizes.detokenized_images(self.padded), grid, grid
                self._reserve_for_pixels()
                detokenizer(torch.zeros(shape, dtype=torch.int64, device="cuda"))
        self.decoder, self.detokenizer = decoder, detokenizer
        self._states = PromptStates(encoder, self.config.text_length, sizes.ENCODED_ROWS)

    def most(self) -> int:
        """Return the largest number of images to decode together in the memory free now."""
        if self._graphs is not None and self._graphs.num_images >= self._most:
            return self._most
        held = 0 if self._graphs is None else self._graphs.num_images
        free = memory.free_bytes() + held * sizes.cache_bytes(self.config, self.dtype)
        return sizes.images_that_fit(self.config, self.dtype, self.padded, free, self._most)

    def draw(self, requests: Sequence[Request]) -> Iterator[Result]:
        """Yield one result a request, in order; out of memory halves the block."""
        yield from draw_overlapped(requests, self)

    def draw_block(
        self, requests: Sequence[Request], on_tokens: OnTokens | None = None
    ) -> list[Result]:
        """Draw requests together and return their results in order."""
        started = time.perf_counter()
        return self.finish(self.queue(requests, on_tokens), started)

    def queue(self, requests: Sequence[Request], on_tokens: OnTokens | None = None) -> QueuedBlock:
        """Start a block, without waiting for it."""
        prompts = [self.tokenizer.tokenize(request.prompt) for request in requests]
        tokens = self.decode(requests, [prompt.ids for prompt in prompts], on_tokens)
        is_decoded = torch.cuda.Event()
        is_decoded.record()
        return QueuedBlock(requests, prompts, tokens, is_decoded)

    def finish(self, block: QueuedBlock, started: float = 0.0) -> list[Result]:
        """Return a queued block's results; waits for its own stream, not for the next block."""
        self._side.wait_event(block.is_decoded)
        block.tokens.record_stream(self._side)
        with torch.cuda.stream(self._side):
            pixels, tokens = self._paint(block.tokens)
        seconds = time.perf_counter() - started
        return make_results(
            block.requests, block.prompts, tokens, pixels, seconds, self.config.fingerprint
        )

    def shrink(self, num_images: int) -> None:
        """Free all memory that can be rebuilt; decode at most half of `num_images` from now on."""
        self._most = max(1, min(self._most, num_images // 2))
        self._drop_graphs()
        memory.release_unused()

    def close(self) -> None:
        """Free graphs and states, and return the memory to the driver."""
        try:
            self._drop_graphs()
            del self._states, self.decoder, self.detokenizer
            memory.release_unused()
        except RuntimeError as error:
            if not is_lost(error):
                raise
            log.warning("The GPU keeps its memory until the process ends: %s", error)

    def _drop_graphs(self) -> None:
        if self._graphs is not None:
            torch.cuda.synchronize()  # a graph that is being replayed must not be freed
            self._graphs = None

    @torch.inference_mode()
    def decode(
        self,
        requests: Sequence[Request],
        prompts: Sequence[Ids],
        on_tokens: OnTokens | None = None,
    ) -> Tensor:
        """Return the image tokens of requests: int64 [image, step], still being computed."""
        num_images = len(requests)
        in_use = 1 << (num_images - 1).bit_length() if self.shapes_vary else self.padded
        filled = [*prompts, *[prompts[-1]] * (in_use - num_images)]
        padding = [requests[-1]] * (self.padded - num_images)
        settings = BlockSettings.of([*requests, *padding], self.decoder.num_steps)
        report = on_tokens and (lambda step, tokens: on_tokens(step, tokens[:num_images]))
        try:
            with exact_arithmetic():
                states = self._states.of(filled)
                tokens = self._graphs_for(in_use).decode_block(filled, states, settings, report)
        except Exception:
            self._drop_graphs()  # too large for the memory, perhaps: a smaller block makes its own
            raise
        return tokens[:num_images]

    def detokenize(self, tokens: Tensor) -> np.ndarray:
        """Return uint8 [image, height, width, 3] of int64 [image, step]."""
        return self._paint(tokens)[0]

    @torch.inference_mode()
    def _paint(self, tokens: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return uint8 [image, height, width, 3] of int64 [image, step], and these tokens.

        The tokens are BROKEN where half precision was too narrow for an image's numbers.
        """
        grid, together = self.config.image_grid, sizes.detokenized_images(self.padded)
        images = clamp_tokens(tokens, self.detokenizer).view(-1, grid, grid)
        drawn, sums = [], []
        self._reserve_for_pixels()
        with exact_arithmetic():
            for batch in images.split(together):
                missing = together - len(batch)
                padded = torch.cat([batch, batch[-1:].expand(missing, -1, -1)])
                numbers = self.detokenizer.paint(padded)[: len(batch)]
                drawn.append(to_pixels(numbers))
                sums.append(numbers.sum((1, 2, 3), dtype=torch.float32))
        is_broken = torch.cat(sums).isfinite().logical_not_()[:, None]
        pixels = to_host(torch.cat(drawn)).numpy()
        return pixels, to_host(tokens.masked_fill(is_broken, BROKEN)).numpy()

    def _reserve_for_pixels(self) -> None:
        """Fail before the first convolution if memory is short.

        A convolution that finds no memory for its workspace takes another algorithm, silently, and
        with it other bits.
        """
        memory.reserve(sizes.detokenizer_bytes(self.config, self.dtype, self.padded))

    @torch.inference_mode()
    def detokenize_picture(self, tokens: Tensor) -> np.ndarray:
        """Return uint8 [height, width, 3] of one picture's int64 [row, column]."""
        with exact_arithmetic():
            pixels = self.detokenizer(clamp_tokens(tokens[None], self.detokenizer))
        return to_host(pixels)[0].numpy()

    def _graphs_for(self, num_images: int) -> GraphDecoder:
        if self._graphs is None or self._graphs.num_images < num_images:
            self._drop_graphs()  # before its successor is allocated
            self._graphs = GraphDecoder(
                self.decoder,
                self.padded,
                num_images,
                self.config.text_length,
                self.shapes_vary,
                self._side,
            )
        return self._graphs
