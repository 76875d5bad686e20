"""Blocks: nothing is split beforehand, each worker gets its share, groups stay together."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest

from promptlab.records import Numerics
from promptlab.workers.blocks import BLOCK_S, FIRST, MOST, Blocks, Sizes, Work
from tests.workers.conftest import make_work


def padded(work: Work, images: int) -> Work:
    numerics = Numerics("cuda", "bfloat16", images)
    return Work(replace(work.planned, numerics=numerics), work.requests)


def simulate(work: Work, speeds: dict[str, float], start_s: float = 0.0) -> float:
    """Return what part of the workers' time goes into images, with workers of such images/s."""
    blocks, sizes = Blocks([work]), Sizes()
    free_at = dict.fromkeys(speeds, start_s)
    names = list(speeds)
    ended = 0.0
    while blocks.num_left:
        name = min(free_at, key=lambda each: free_at[each])
        taken = blocks.take(lambda w, left, batch, name=name: sizes.choose(w, name, names, left))
        assert taken is not None
        seconds = len(taken[1]) / speeds[name]
        sizes.note_batch(work, 1)
        sizes.note_block(work, name, len(taken[1]), seconds)
        free_at[name] += seconds
        ended = max(ended, free_at[name])
    return len(work.requests) / sum(speeds.values()) / ended


def test_equal_and_unequal_workers_are_busy_to_the_end():
    work = make_work(4000)
    assert simulate(work, {f"gpu {n}": 20.0 for n in range(8)}) > 0.98
    unequal = {f"gpu {n}": 40.0 if n < 4 else 10.0 for n in range(8)}
    assert simulate(work, unequal) > 0.97
    assert simulate(make_work(300), {"gpu 0": 5.0, "gpu 1": 0.5}) > 0.95


def test_every_request_is_handed_out_once_in_order():
    work, sizes = make_work(500), Sizes()
    blocks = Blocks([work])
    given = []
    while (
        taken := blocks.take(lambda w, left, batch: sizes.choose(w, "a", ["a", "b"], left, batch))
    ) is not None:
        given += taken[1]
    assert given == list(work.requests)
    assert blocks.num_left == 0


def test_a_single_worker_gets_a_few_requests_at_once():
    work = make_work(FIRST)
    taken = Blocks([work]).take(lambda w, left, batch: Sizes().choose(w, "a", ["a"], left, batch))
    assert taken == (work, tuple(work.requests))


def test_a_block_has_one_model_and_one_group():
    first, second = make_work(9, "tests.workers.models.GroupingModel"), make_work(5)
    blocks = Blocks([first, second])
    taken = iter(lambda: blocks.take(lambda work, left, batch: 100), None)
    shape = [(work, "".join(request.prompt[-1] for request in block)) for work, block in taken]
    assert shape == [(first, "036"), (first, "147"), (first, "258"), (second, "01234")]


def test_padded_batches_are_whole_until_the_last():
    work, sizes = padded(make_work(1000), 32), Sizes()
    sizes.note_block(work, "a", 32, 1.0)
    blocks = Blocks([work])
    given = []
    while (
        taken := blocks.take(lambda w, left, batch: sizes.choose(w, "a", ["a", "b"], left, batch))
    ) is not None:
        given.append(len(taken[1]))
    assert all(size % 32 == 0 for size in given[:-1])
    assert max(given) == BLOCK_S * 32
    assert given[-1] == 1000 % 32


def test_a_slow_models_batch_is_found_and_kept_whole():
    work, sizes = make_work(1000), Sizes()
    sizes_seen = []
    for _ in range(6):
        size = sizes.choose(work, "a", ["a"], 900)
        sizes_seen.append(size)
        sizes.note_batch(work, min(size, 27))
        sizes.note_block(work, "a", size, 60.0)
    assert sizes_seen == [FIRST, 16, 32, 27, 27, 27]


def test_a_block_has_a_largest_size():
    work = make_work(4 * MOST)
    blocks = Blocks([work, Work(work.planned, work.requests, most=64)])
    assert len(blocks.take(lambda w, left, batch: 10**6)[1]) == MOST
    for _ in range(3):
        blocks.take(lambda w, left, batch: 10**6)
    assert len(blocks.take(lambda w, left, batch: 10**6)[1]) == 64


@pytest.mark.parametrize("seed", range(20))
def test_a_size_is_never_less_than_one_nor_more_than_what_is_left(seed):
    chance = random.Random(seed)
    work, sizes = padded(make_work(1), chance.choice([1, 4, 128])), Sizes()
    if chance.random() < 0.5:
        work = make_work(1)
    names = [f"gpu {n}" for n in range(chance.randint(1, 9))]
    for name, _ in itertools.product(names, range(2)):
        if chance.random() < 0.5:
            sizes.note_batch(work, chance.randint(1, 64))
            sizes.note_block(work, name, chance.randint(1, 500), chance.uniform(0.01, 100))
    left = chance.randint(1, 1000)
    blocks = Blocks([Work(work.planned, list(work.requests) * left)])
    owner = blocks._groups[0][0]
    taken = blocks.take(lambda w, num, batch: sizes.choose(owner, names[0], names, num, batch))
    assert 1 <= len(taken[1]) <= left


def test_what_a_lost_worker_had_is_handed_out_next_in_pieces():
    work = make_work(30)
    blocks = Blocks([work])
    lost = blocks.take(lambda w, left, batch: 17)[1]
    assert blocks.num_left == 13
    blocks.give_back(work, lost, 8)
    assert blocks.num_left == 30
    pieces = [blocks.take(lambda w, left, batch: 99)[1] for _ in range(6)]
    assert [len(piece) for piece in pieces] == [3, 3, 3, 3, 3, 2]
    assert tuple(itertools.chain(*pieces)) == lost
