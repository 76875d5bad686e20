"""A model loaded on a CPU: weights shared by lanes, and the threads that they compute in.

Takes a model's tensors and its requests, yields results. A small model has one lane for each thread
(see lane.py), a large one a single lane whose products use all threads. Knows not how a model is
named, found or described.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from promptlab.models.batching import draw_in_batches
from promptlab.models.dalle.blocks import BlockSizes, default_batch_size
from promptlab.models.dalle.config import DalleConfig
from promptlab.models.dalle.cpu.bags import forget_places
from promptlab.models.dalle.cpu.lanes import BLOCK_IMAGES, ThreadPolicy, draw_side_by_side
from promptlab.models.dalle.decode import OnTokens
from promptlab.models.dalle.detokenizer import load_detokenizer
from promptlab.models.dalle.encode import Ids, PromptStates
from promptlab.models.dalle.lane import Lane
from promptlab.models.dalle.network import load_decoder, load_encoder
from promptlab.models.dalle.runner import Runner
from promptlab.models.dalle.strip_detokenizer import ImagesDetokenizer, PackedConvs
from promptlab.models.dalle.tokenizer import Tokenizer
from promptlab.records import Request, Result


class CpuRunner(Runner):
    """The weights on a CPU, and the lanes that draw with them."""

    def __init__(
        self,
        config: DalleConfig,
        tensors: Mapping[str, Tensor],
        tokenizer: Tokenizer,
        dtype: str = "float32",
        batch_size: int | None = None,
    ):
        super().__init__(config, tokenizer, getattr(torch, dtype))
        with torch.inference_mode():
            encoder = load_encoder(tensors, config, self.dtype, "cpu")
            decoder = load_decoder(tensors, config, self.dtype, "cpu")
            network = load_detokenizer(tensors, config, self.dtype, "cpu")
        self.threads = ThreadPolicy.for_width(config.width)
        num_lanes = self.threads.num_lanes
        largest = batch_size or default_batch_size(config, self.dtype, num_lanes)
        if self.threads.is_side_by_side:
            largest = min(largest, BLOCK_IMAGES)
        self.sizes = BlockSizes(decoder, config.text_length, largest)
        packed = PackedConvs()
        self.lanes = [
            Lane(
                config,
                tokenizer,
                decoder,
                PromptStates(encoder, config.text_length),
                ImagesDetokenizer(network, packed, self.threads.num_shares),
                self.sizes,
            )
            for _ in range(num_lanes)
        ]

    def most(self) -> int:
        """Return the largest number of images to draw together."""
        return self.sizes.most()

    def draw(self, requests: Sequence[Request]) -> Iterator[Result]:
        """Yield one result a request; out of memory halves the block."""
        with self.threads.computing():
            if self.threads.is_side_by_side:
                draw_wanted = [lane.draw_wanted for lane in self.lanes]
                yield from draw_side_by_side(requests, self.most(), draw_wanted)
            else:
                yield from draw_in_batches(requests, self.most(), self.draw_block)

    def draw_block(
        self, requests: Sequence[Request], on_tokens: OnTokens | None = None
    ) -> list[Result]:
        """Draw requests together and return their results in order."""
        with self.threads.computing():
            return self.lanes[0].draw_block(requests, on_tokens)

    def decode(self, requests: Sequence[Request], prompts: Sequence[Ids]) -> Tensor:
        """Return the image tokens of requests: int64 [image, step], in their order."""
        with self.threads.computing():
            return self.lanes[0].decode(requests, prompts)

    def detokenize(self, tokens: Tensor) -> np.ndarray:
        """Return uint8 [image, height, width, 3] of int64 [image, step]."""
        with self.threads.computing():
            return self.lanes[0].detokenizer.pixels(tokens).numpy()

    def detokenize_picture(self, tokens: Tensor) -> np.ndarray:
        """Return uint8 [height, width, 3] of one picture's int64 [row, column]."""
        with self.threads.computing():
            return self.lanes[0].detokenizer.picture(tokens).numpy()

    def close(self) -> None:
        """Free the lanes' memory and the indices that all models share."""
        self.lanes = []
        forget_places()
