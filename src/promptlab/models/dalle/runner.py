"""A loaded model: requests become blocks, and blocks become results.

The interface of a device's runner (see cpu_runner.py, cuda/runner.py), and what needs nothing else:
previews and seamless pictures. Knows not how a model is named, found or described.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from promptlab.errors import ModelError
from promptlab.models.batching import draw_in_batches
from promptlab.models.dalle.config import DalleConfig
from promptlab.models.dalle.decode import OnTokens
from promptlab.models.dalle.encode import Ids
from promptlab.models.dalle.tokenizer import Tokenizer
from promptlab.models.protocol import OnPreview
from promptlab.records import Request, Result


class Runner(ABC):
    """A model on its device."""

    def __init__(self, config: DalleConfig, tokenizer: Tokenizer, dtype: torch.dtype):
        self.config, self.tokenizer, self.dtype = config, tokenizer, dtype

    @abstractmethod
    def most(self) -> int:
        """Return the largest number of images to draw together."""

    @abstractmethod
    def draw(self, requests: Sequence[Request]) -> Iterator[Result]:
        """Yield one result a request, in order; out of memory halves the block."""

    @abstractmethod
    def draw_block(
        self, requests: Sequence[Request], on_tokens: OnTokens | None = None
    ) -> list[Result]:
        """Draw requests together and return their results in order."""

    @abstractmethod
    def decode(self, requests: Sequence[Request], prompts: Sequence[Ids]) -> Tensor:
        """Return the image tokens of requests: int64 [image, step], in their order."""

    @abstractmethod
    def detokenize(self, tokens: Tensor) -> np.ndarray:
        """Return uint8 [image, height, width, 3] of int64 [image, step]."""

    @abstractmethod
    def detokenize_picture(self, tokens: Tensor) -> np.ndarray:
        """Return uint8 [height, width, 3] of one picture's int64 [row, column]."""

    @abstractmethod
    def close(self) -> None:
        """Free the memory of weights and caches."""

    def draw_with_previews(
        self, requests: Sequence[Request], on_preview: OnPreview, every: int
    ) -> Iterator[Result]:
        """Draw as `draw` does, and show the unfinished images every `every` tokens."""

        def draw_batch(batch: Sequence[Request]) -> list[Result]:
            def on_tokens(num_tokens: int, tokens: Tensor) -> None:
                if num_tokens % every == 0 and num_tokens < self.config.num_image_tokens:
                    on_preview(num_tokens, batch, self.detokenize(tokens))

            return self.draw_block(batch, on_tokens)

        yield from draw_in_batches(requests, self.most(), draw_batch)

    @torch.inference_mode()
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
        grid, most = self.config.image_grid, self.most()
        batches = [requests[first : first + most] for first in range(0, len(requests), most)]
        tokens = torch.cat(
            [
                self.decode(batch, [self.tokenizer.tokenize(r.prompt).ids for r in batch])
                for batch in batches
            ]
        )
        tokens = tokens.view(-1, num_columns, grid, grid).transpose(1, 2)
        return self.detokenize_picture(tokens.reshape(-1, num_columns * grid))
