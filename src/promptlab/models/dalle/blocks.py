"""How many images a CPU decodes together, without any effect on an image's bits.

Takes a decoder and a number of images; returns the number of images that their block is padded to.
Products over a fixed number of rows are exact per row, but a library may order its sums differently
for another number of rows. So one number is the reference. Another one is used only after one layer
and the logits, computed at both sizes, have agreed in every bit on this machine. Knows nothing of
requests.
"""

from __future__ import annotations

import dataclasses
import os

import torch

from promptlab.errors import ModelError
from promptlab.models.dalle.cache import Cache
from promptlab.models.dalle.config import DalleConfig
from promptlab.models.dalle.decode import decode_logits
from promptlab.models.dalle.encode import padded_length
from promptlab.models.dalle.network import Decoder
from promptlab.models.dalle.sampling import BlockSettings
from promptlab.models.dalle.texts import prepare_text

REFERENCE = 32  # images
# A block holds a multiple of one of these numbers of images: AVX-512's products take six rows
# (three images) at a time; other units run best with powers of two.
STEPS = (3, 4)
WHOLE = 4  # a block sized by the free memory holds a multiple of this number of images
MEMORY_SHARE = 0.4  # of the free memory, for the cache
LARGEST = 64  # images; larger blocks are not faster


class BlockSizes:
    """The numbers of images that this machine decodes with the same bits."""

    def __init__(self, decoder: Decoder, text_length: int, largest: int):
        self.largest = largest
        self._decoder, self._text_length = decoder, text_length
        self._is_exact = {REFERENCE: True}

    def fit(self, num_images: int) -> int:
        """Return the size of the block that `num_images` images are padded to.

        Raises ModelError for more images than a block of this machine holds.
        """
        size = self._rounded(num_images)
        # Terminates, because the reference size and `most()` are always exact.
        while not self.is_exact(size):
            if size >= max(REFERENCE, self.largest):
                raise ModelError(
                    f"Expected at most {self.most()} images in one block, got {num_images}."
                )
            size = self._rounded(size + 1)
        return size

    def most(self) -> int:
        """Return the largest number of images to decode together."""
        most = self.largest
        while most > REFERENCE and not self.is_exact(self._rounded(most)):
            most -= 1
        return most

    def is_exact(self, num_images: int) -> bool:
        """Tell whether blocks of this size give the bits of the reference; checked once."""
        if num_images not in self._is_exact:
            self._is_exact[num_images] = self._agrees(num_images)
        return self._is_exact[num_images]

    def _rounded(self, num_images: int) -> int:
        return min(-(-num_images // step) * step for step in STEPS)

    def _agrees(self, num_images: int) -> bool:
        common = min(num_images, REFERENCE)
        steps = (0, self._decoder.num_steps // 3, self._decoder.num_steps - 1)
        own = self._probe(num_images, steps)[:, :common]
        return torch.equal(own, self._probe(REFERENCE, steps)[:, :common])

    @torch.inference_mode()
    def _probe(self, num_images: int, steps: tuple[int, ...]) -> torch.Tensor:
        """Return the logits [step, image, token] of one layer over seeded random states."""
        decoder = dataclasses.replace(self._decoder, layers=self._decoder.layers[:1])
        generator = torch.Generator().manual_seed(0)
        most = max(num_images, REFERENCE)

        def noise(*shape: int) -> torch.Tensor:
            # The same numbers for the same row, whatever the number of rows.
            values = torch.randn(most, *shape, generator=generator)
            return values.to(decoder.dtype)

        head_width = decoder.width // decoder.num_heads
        # [row, head, position, head width] of keys and of values, empty prompts' rows first
        keys, values = (
            torch.cat(
                [
                    noise(decoder.num_heads, decoder.num_steps, head_width)[:num_images]
                    for _ in range(2)
                ]
            )
            for _ in range(2)
        )
        cache = Cache(decoder, num_images)
        prompts = [(0, 3 + index % 5, 2) for index in range(num_images)]
        length = padded_length(3, self._text_length)
        states = {ids: noise(length, decoder.width)[0] for ids in [(0, 2), *prompts[:5]]}
        ones = torch.ones(num_images, 1)
        first = ones.to(torch.int64)
        settings = BlockSettings(ones, first, ones * 3, ones[None], first[:, 0].expand(1, -1), 1)
        text = prepare_text(decoder, prompts, states, self._text_length)
        previous = torch.arange(num_images) % decoder.logits.num_outputs
        logits = []
        for position in range(decoder.num_steps):
            cache.hold(position + 1)
            if position in steps:
                logits.append(decode_logits(decoder, cache, text, settings, previous, position))
            cache.write(0, position, keys[:, :, position], values[:, :, position])
        return torch.stack(logits)


def default_batch_size(config: DalleConfig, dtype: torch.dtype, num_caches: int = 1) -> int:
    """Return the number of images a cache for which `num_caches` caches fit the free memory."""
    fitting = int(free_memory_bytes() * MEMORY_SHARE / cache_bytes(config, dtype) / num_caches)
    return max(1, min(LARGEST, fitting // WHOLE * WHOLE))


def cache_bytes(config: DalleConfig, dtype: torch.dtype) -> int:
    """Return the bytes of one image's keys and values: of two rows, in every layer."""
    numbers = 2 * 2 * config.num_decoder_layers * config.num_image_tokens * config.width
    return numbers * torch.finfo(dtype).bits // 8


def free_memory_bytes() -> int:
    """Return the bytes that a new allocation may take."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return int(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")) // 2
    except (AttributeError, ValueError, OSError):
        return 4 * 2**30  # a modest guess where the platform does not report it
