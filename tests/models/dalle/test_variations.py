"""Variations keep the first rows of their parent's tokens, exactly, in any batch."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from promptlab.models.dalle.cpu_runner import CpuRunner
from promptlab.models.dalle.variations import (
    FREE,
    describe_problem,
    kept_tokens,
    num_kept_rows,
    pack_tokens,
    unpack_tokens,
)
from promptlab.png import add_texts, compress, drop_texts, read_latent, text_chunk
from promptlab.records import Result, Source
from tests.models.dalle.tiny_models import TINY, make_runner, random_requests, vary

NUM_TOKENS, SIDE = TINY.num_image_tokens, TINY.image_grid


@pytest.fixture(scope="module")
def runner() -> CpuRunner:
    return make_runner()


def tokens_of(result: Result) -> np.ndarray:
    tokens = unpack_tokens(result.latent, TINY.fingerprint, NUM_TOKENS)
    assert tokens is not None
    return tokens


@pytest.mark.parametrize("strength", [0.0, 0.2, 0.6, 1.0])
def test_the_rows_above_are_the_parents_and_the_rest_is_drawn_anew(
    runner: CpuRunner, strength: float
) -> None:
    parent_request, *requests = random_requests(7, seed=3)
    (parent,) = runner.draw([parent_request])
    results = list(runner.draw([vary(r, parent, strength) for r in requests]))
    num_kept = num_kept_rows(strength, SIDE) * SIDE
    for result in results:
        assert np.array_equal(tokens_of(result)[:num_kept], tokens_of(parent)[:num_kept])
    if 0 < num_kept < NUM_TOKENS:
        rests = {tokens_of(result)[num_kept:].tobytes() for result in results}
        assert len(rests) > 1


def test_strength_one_gives_the_bits_of_an_image_without_a_parent(runner: CpuRunner) -> None:
    parent_request, *requests = random_requests(5, seed=4)
    (parent,) = runner.draw([parent_request])
    for request in requests:
        (fresh,) = runner.draw([request])
        (varied,) = runner.draw([vary(request, parent, 1.0)])
        assert np.array_equal(fresh.pixels, varied.pixels)


def test_strength_zero_gives_the_parent(runner: CpuRunner) -> None:
    parent_request, request = random_requests(2, seed=5)
    (parent,) = runner.draw([parent_request])
    (same,) = runner.draw([vary(request, parent, 0.0)])
    assert np.array_equal(same.pixels, parent.pixels)


def test_a_variation_is_the_same_alone_and_beside_any_others(runner: CpuRunner) -> None:
    requests = random_requests(12, seed=6)
    parents = list(runner.draw(requests[:2]))
    mixed = [
        vary(request, parents[index % 2], [0.2, 0.4, 0.8][index % 3]) if index % 4 else request
        for index, request in enumerate(requests[2:])
    ]
    alone = {r.image_id: next(iter(runner.draw([r]))).pixels for r in mixed}
    for result in runner.draw(mixed[::-1]):
        assert np.array_equal(result.pixels, alone[result.request.image_id])


def test_variations_of_variations_keep_what_was_kept(runner: CpuRunner) -> None:
    first, second, third = random_requests(3, seed=7)
    (parent,) = runner.draw([first])
    (child,) = runner.draw([vary(second, parent, 0.4)])
    (grandchild,) = runner.draw([vary(third, child, 0.2)])
    kept = num_kept_rows(0.4, SIDE) * SIDE
    assert np.array_equal(tokens_of(grandchild)[:kept], tokens_of(parent)[:kept])
    assert np.array_equal(tokens_of(grandchild)[:-SIDE], tokens_of(child)[:-SIDE])


def test_tokens_survive_the_png_and_its_texts() -> None:
    tokens = np.arange(NUM_TOKENS)
    pixels = np.zeros((4, 4, 3), np.uint8)
    png = compress(pixels, pack_tokens("0123456789abcdef", tokens))
    labelled = drop_texts(add_texts(png, text_chunk("prompt", "a fox")))
    found = unpack_tokens(read_latent(labelled), "0123456789abcdef", NUM_TOKENS)
    assert found is not None
    assert np.array_equal(found, tokens)
    assert unpack_tokens(read_latent(labelled), "f" * 16, NUM_TOKENS) is None
    assert read_latent(compress(pixels)) == b""


def test_a_request_without_a_source_keeps_nothing() -> None:
    assert (kept_tokens(random_requests(3, seed=8), NUM_TOKENS) == FREE).all()


@pytest.mark.parametrize(
    ("latent", "expected"),
    [
        (b"", "holds no tokens"),
        (pack_tokens("f" * 16, np.arange(NUM_TOKENS)), "drawn by another model"),
        (pack_tokens("0" * 16, np.arange(NUM_TOKENS - 1)), "drawn by another model"),
    ],
)
def test_a_parent_whose_tokens_are_not_known_is_refused(latent: bytes, expected: str) -> None:
    png = compress(np.zeros((4, 4, 3), np.uint8), latent)
    (request,) = random_requests(1, seed=9)
    request = dataclasses.replace(request, source=Source("a" * 16, "", png))
    assert expected in (describe_problem(request, "0" * 16, NUM_TOKENS) or "")


def test_shares_are_rounded_to_whole_rows() -> None:
    shares = [0.0, 0.04, 0.05, 0.3, 0.55, 0.96, 1.0]
    assert [num_kept_rows(share, 10) for share in shares] == [10, 10, 9, 7, 4, 0, 0]
    assert num_kept_rows(0.5, 16) == 8
