"""Every request is answered exactly once, whatever the model does."""

import dataclasses

import numpy as np
import pytest

from promptlab import engine
from promptlab.errors import ModelLostError
from promptlab.models.batching import draw_in_batches
from promptlab.records import Request, Result


def make_requests(count):
    return [Request(f"{seed:016x}", f"prompt {seed}", seed, {}) for seed in range(count)]


def paint(request):
    return Result(request, pixels=np.full((4, 4, 3), 1 + request.seed % 255, np.uint8))


@dataclasses.dataclass
class ScriptedModel:
    """Draws flat colours; `misbehave` may raise or replace a result, as a broken model would."""

    misbehave: object = paint
    is_loaded: bool = False
    num_calls: int = 0

    def load(self):
        self.is_loaded = True

    def unload(self):
        self.is_loaded = False

    def draw(self, requests):
        assert self.is_loaded
        self.num_calls += 1
        for request in requests:
            yield self.misbehave(request)


def test_every_request_is_answered_once_in_blocks():
    model = ScriptedModel()
    requests = make_requests(10)
    results = list(engine.draw_all(model, iter(requests), block_size=4))
    assert [result.request for result in results] == requests
    assert model.num_calls == 3
    assert not model.is_loaded


def test_a_block_holds_one_group_and_the_first_group_comes_first():
    requests = make_requests(7)
    blocks = engine.cut_blocks(requests, 2, lambda request: request.seed % 2)
    assert [[request.seed for request in block] for block in blocks] == [
        [0, 2],
        [4, 6],
        [1, 3],
        [5],
    ]


def test_drawing_never_loads_and_a_resident_model_draws_many_blocks():
    model = ScriptedModel()
    with engine.resident(model):
        for request in make_requests(3):
            assert [r.error for r in engine.draw(model, [request])] == [None]
    assert not model.is_loaded
    (result,) = engine.draw(model, make_requests(1))
    assert result.error is not None, "a model that is not loaded draws nothing"


def test_after_one_bad_request_the_others_are_still_drawn_together():
    def raise_for_three(request):
        if request.seed == 3:
            raise ValueError("cannot draw 3")
        return paint(request)

    model = ScriptedModel(raise_for_three)
    results = list(engine.draw_all(model, make_requests(1000)))
    assert len({result.request.image_id for result in results}) == len(results) == 1000
    assert [result.request.seed for result in results if result.error] == [3]
    assert model.num_calls < 25, "two calls a halving"


@pytest.mark.parametrize(
    "error", [ModelLostError("the service is gone"), RuntimeError("CUDA error: an illegal access")]
)
def test_a_model_that_is_lost_keeps_what_was_drawn_and_blames_no_request(error):
    def lose_at_three(request):
        if request.seed == 3:
            raise error
        return paint(request)

    model = ScriptedModel(lose_at_three)
    drawing = engine.draw_all(model, make_requests(8))
    drawn = [next(drawing) for _ in range(3)]
    with pytest.raises(ModelLostError, match=str(error)):
        next(drawing)
    assert [result.request.seed for result in drawn] == [0, 1, 2]
    assert all(result.error is None for result in drawn)
    assert (model.num_calls, model.is_loaded) == (1, False)


def test_a_model_that_raises_fails_that_request_alone():
    def raise_for_three(request):
        if request.seed == 3:
            raise ValueError("cannot draw 3\nsecond line")
        return paint(request)

    results = list(engine.draw_all(ScriptedModel(raise_for_three), make_requests(8)))
    assert sorted(result.request.seed for result in results) == list(range(8))
    failed = [result for result in results if result.error]
    assert [(r.request.seed, r.error) for r in failed] == [(3, "ValueError: cannot draw 3")]


def test_a_model_that_forgets_a_request_gets_a_failed_row_and_one_that_repeats_none():
    class Forgetful(ScriptedModel):
        def draw(self, requests):
            for request in requests[:-1]:
                yield paint(request)
                yield paint(request)

    results = list(engine.draw_all(Forgetful(), make_requests(3)))
    assert [result.error for result in results] == [
        None,
        None,
        "the model returned no result for this request",
    ]


@pytest.mark.parametrize(
    ("pixels", "problem"),
    [
        (np.full((4, 4, 3), np.nan, np.float32), "not finite"),
        (np.zeros((4, 4), np.uint8), "expected uint8 pixels"),
        (np.zeros((4, 4, 3), np.float32), "got float32"),
        (None, "neither pixels nor an error"),
    ],
)
def test_pixels_that_are_no_image_fail_with_the_reason(pixels, problem):
    model = ScriptedModel(lambda request: Result(request, pixels=pixels))
    (result,) = engine.draw_all(model, make_requests(1))
    assert result.pixels is None
    assert problem in result.error


def test_an_image_with_an_error_is_a_failure_without_pixels():
    pixels = np.ones((4, 4, 3), np.uint8)
    model = ScriptedModel(lambda request: Result(request, pixels, error="refused"))
    (result,) = engine.draw_all(model, make_requests(1))
    assert (result.status, result.error, result.pixels) == ("failed", "refused", None)


def test_an_image_of_no_pixels_fails():
    model = ScriptedModel(lambda request: Result(request, np.zeros((0, 4, 3), np.uint8)))
    (result,) = engine.draw_all(model, make_requests(1))
    assert "expected uint8 pixels" in result.error


def test_a_flag_that_the_model_sets_stays():
    pixels = np.ones((4, 4, 3), np.uint8)
    model = ScriptedModel(lambda request: Result(request, pixels, flag="too small"))
    (result,) = engine.draw_all(model, make_requests(1))
    assert (result.status, result.flag) == ("flagged", "too small")


def test_a_black_image_is_kept_and_flagged_while_a_dark_one_is_fine():
    dark = np.zeros((4, 4, 3), np.uint8)
    dark[0, 0, 2] = 1
    pictures = [np.zeros((4, 4, 3), np.uint8), dark]
    model = ScriptedModel(lambda request: Result(request, pixels=pictures[request.seed]))
    black, almost_black = engine.draw_all(model, make_requests(2))
    assert (black.status, black.flag, black.error) == ("flagged", "every pixel is black", None)
    assert black.pixels is not None
    assert (almost_black.status, almost_black.flag) == ("ok", None)


def test_ctrl_c_is_not_mistaken_for_a_failing_image():
    def interrupt(request):
        raise KeyboardInterrupt

    model = ScriptedModel(interrupt)
    with pytest.raises(KeyboardInterrupt):
        list(engine.draw_all(model, make_requests(2)))
    assert not model.is_loaded


def test_out_of_memory_halves_the_batch_and_loses_nothing():
    sizes = []

    def draw_batch(batch):
        sizes.append(len(batch))
        if len(batch) > 3:
            raise MemoryError
        return [paint(request) for request in batch]

    requests = make_requests(20)
    results = list(draw_in_batches(requests, 16, draw_batch))
    assert [result.request for result in results] == requests
    assert all(result.error is None for result in results)
    assert sizes[:3] == [16, 8, 4]
    assert set(sizes[3:]) == {2}


def test_one_image_that_never_fits_fails_alone():
    def draw_batch(batch):
        if any(request.seed == 5 for request in batch):
            raise RuntimeError("CUDA error: out of memory")
        return [paint(request) for request in batch]

    results = list(draw_in_batches(make_requests(8), 8, draw_batch))
    assert [bool(result.error) for result in results] == [seed == 5 for seed in range(8)]


def test_in_a_failing_batch_the_error_lands_on_the_request_that_causes_it():
    def draw_batch(batch):
        if any(request.seed == 2 for request in batch):
            raise ValueError("bad prompt")
        return [paint(request) for request in batch]

    results = list(draw_in_batches(make_requests(6), 4, draw_batch))
    assert [result.error for result in results] == [None, None, "ValueError: bad prompt"] + [
        None
    ] * 3


def test_a_failing_batch_is_halved_and_not_drawn_one_by_one():
    sizes = []

    def draw_batch(batch):
        sizes.append(len(batch))
        if any(request.seed == 2 for request in batch):
            raise ValueError("bad prompt")
        return [paint(request) for request in batch]

    results = list(draw_in_batches(make_requests(64), 64, draw_batch))
    assert [result.request.seed for result in results if result.error] == [2]
    assert len(sizes) == 1 + 2 * 6


def test_a_batch_holds_one_group():
    sizes = []

    def draw_batch(batch):
        sizes.append(len(batch))
        return [paint(request) for request in batch]

    requests = make_requests(10)
    results = list(draw_in_batches(requests, 4, draw_batch, lambda request: request.seed < 6))
    assert [result.request for result in results] == requests
    assert sizes == [4, 2, 4]
