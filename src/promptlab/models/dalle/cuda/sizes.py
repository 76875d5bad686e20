"""How many images a card decodes together, from the sizes of model and card.

Takes a model's sizes, a dtype and bytes; returns numbers of images. All products of a block run
over one padded number of rows. It depends on the model, the dtype and the card's total memory only,
so an image's bits depend neither on the job nor on other programs. Fewer images may be in use, down
to one: then only attention and its cache are smaller, and attention's kernel gives every row and
head a thread block of its own. Knows nothing of requests, and asks no device.
"""

from __future__ import annotations

import math

import torch

from promptlab.errors import ModelError
from promptlab.models.dalle.config import CONFIG_FROM_SIZE, DalleConfig
from promptlab.models.dalle.encode import MAX_REMEMBERED_PROMPTS
from promptlab.models.dalle.weights import expected_shapes

MOST_IMAGES = 128  # in a block: more do not raise the rate
# Smaller cards have less arithmetic for each byte that they read. Half a block keeps what a single
# image costs under twice a block of its own.
LARGE_CARD_BYTES = 32 * 2**30
ENCODED_ROWS = 1024  # text positions in one call of the encoder
EMPTY_LENGTH = 8  # positions of the empty prompt's keys and values: two, padded for alignment
MOST_DETOKENIZED = 8  # images in one batch of the detokenizer: more do not raise its rate

GIB = 2**30
GRAPH_BYTES = GIB // 2  # of the driver, for captured graphs: an estimate, tens of KB a kernel
FIXED_BYTES = GIB // 2 + GRAPH_BYTES  # the device's context, libraries' workspaces, graphs
USABLE_SHARE = 0.95  # of a card's memory: the rest is lost to fragmentation
SAMPLER_BYTES = 64  # for one token of one image: logits, likelihoods and their sums
DETOKENIZER_COPIES = 6  # activations of the largest level that exist at once


def padded_images(config: DalleConfig, dtype: torch.dtype, total_bytes: int) -> int:
    """Return the padded number of images of a block: a power of two.

    Raises ModelError if not even a block of one image fits the card.
    """
    size = MOST_IMAGES if total_bytes >= LARGE_CARD_BYTES else MOST_IMAGES // 2
    while size and needed_bytes(config, dtype, size) > total_bytes * USABLE_SHARE:
        size //= 2
    if not size:
        raise ModelError(describe_too_small(config, dtype, total_bytes))
    return size


def detokenized_images(padded: int) -> int:
    """Return the images of one batch of the detokenizer.

    Its shape is part of an image's bits, so it follows from the padded block alone.
    """
    return min(MOST_DETOKENIZED, padded)


def images_that_fit(
    config: DalleConfig, dtype: torch.dtype, padded: int, free_bytes: int, most: int
) -> int:
    """Return how many images, at most `most`, to decode together in the memory free now.

    The model's weights are loaded already. At least 1; a block of so many, rounded up to a power of
    two, fits the memory.
    """
    left = free_bytes * USABLE_SHARE - GRAPH_BYTES - padded * row_bytes(config, dtype)
    left -= detokenizer_bytes(config, dtype, padded) + encoder_bytes(config, dtype)
    fitting = max(1, int(left // cache_bytes(config, dtype)))
    return min(1 << (fitting.bit_length() - 1), padded, most)


def needed_bytes(config: DalleConfig, dtype: torch.dtype, num_images: int) -> int:
    """Return the memory of a model and a block of `num_images` images on a card."""
    of_an_image = cache_bytes(config, dtype) + row_bytes(config, dtype)
    return (
        FIXED_BYTES
        + weight_bytes(config, dtype)
        + encoder_bytes(config, dtype)
        + detokenizer_bytes(config, dtype, num_images)
        + num_images * of_an_image
    )


def weight_bytes(config: DalleConfig, dtype: torch.dtype) -> int:
    """Return the bytes of all weights."""
    return sum(map(math.prod, expected_shapes(config).values())) * _bytes_of(dtype)


def cache_bytes(config: DalleConfig, dtype: torch.dtype) -> int:
    """Return the bytes of one image's keys and values: of two rows, and of their texts."""
    positions = 2 * config.num_image_tokens + config.text_length + EMPTY_LENGTH
    return 2 * config.num_decoder_layers * positions * config.width * _bytes_of(dtype)


def row_bytes(config: DalleConfig, dtype: torch.dtype) -> int:
    """Return the bytes of one image's rows in a step, in the sampler, and while texts are read."""
    numbers = 2 * (8 * config.width + 6 * config.glu_width) + 8 * config.text_length * config.width
    return numbers * max(4, _bytes_of(dtype)) + config.image_vocab_size * SAMPLER_BYTES


def encoder_bytes(config: DalleConfig, dtype: torch.dtype) -> int:
    """Return the bytes of one call of the encoder, and of the states that are remembered."""
    rows = ENCODED_ROWS * (8 * config.width + 6 * config.glu_width)
    states = MAX_REMEMBERED_PROMPTS * config.text_length * config.width
    return (rows + states) * max(4, _bytes_of(dtype))


def detokenizer_bytes(config: DalleConfig, dtype: torch.dtype, padded: int) -> int:
    """Return the bytes of the activations of one batch of the detokenizer."""
    sizes = config.detokenizer
    largest = max(
        channels * (config.image_grid * 2**level) ** 2
        for level, channels in enumerate(sizes.channels)
    )
    return detokenized_images(padded) * DETOKENIZER_COPIES * largest * _bytes_of(dtype)


def describe_too_small(config: DalleConfig, dtype: torch.dtype, total_bytes: int) -> str:
    """Return the message for a card that is too small, with both sizes and what fits."""
    needed = needed_bytes(config, dtype, 1) / USABLE_SHARE
    fitting = [
        f"{other.name} in {name}"
        for name, each in (("float16", torch.float16), ("float32", torch.float32))
        for other in (config, *CONFIG_FROM_SIZE.values())
        if needed_bytes(other, each, 1) <= total_bytes * USABLE_SHARE
    ]
    advice = f"{', '.join(dict.fromkeys(fitting))} fits; " if fitting else ""
    return (
        f"{config.name} in {_name_of(dtype)} needs {needed / GIB:.1f} GiB of GPU "
        f"memory, this card has {total_bytes / GIB:.1f} GiB: {advice}device=cpu needs no card."
    )


def describe_too_full(
    config: DalleConfig, dtype: torch.dtype, free_bytes: int, total_bytes: int
) -> str:
    """Return the message for a card whose memory other programs use."""
    needed = needed_bytes(config, dtype, 1) / USABLE_SHARE
    return (
        f"{config.name} in {_name_of(dtype)} needs {needed / GIB:.1f} GiB of GPU memory, and "
        f"{free_bytes / GIB:.1f} of the card's {total_bytes / GIB:.1f} GiB are free: close other "
        "programs that use the card, or say device=cpu."
    )


def _name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _bytes_of(dtype: torch.dtype) -> int:
    return torch.finfo(dtype).bits // 8
