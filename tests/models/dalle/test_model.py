"""The model as promptlab uses it: light to open, one result a request, nothing hidden."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from promptlab.errors import ConfigError, ModelError, ParameterError
from promptlab.models.dalle import open_folder, open_min_dalle
from promptlab.models.dalle.cuda.runner import CudaRunner, draw_overlapped
from promptlab.models.dalle.detokenizer import Detokenizer, StripDetokenizer
from promptlab.models.dalle.runner import Runner
from promptlab.models.dalle.tokenizer import WordTokenizer
from promptlab.models.dalle.weights import write_model_folder
from promptlab.models.protocol import Model, normalize_params
from promptlab.records import Request, Result
from tests.models.dalle.tiny_models import (
    PARAMS,
    TINY,
    VOCAB,
    make_runner,
    random_requests,
    random_tensors,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "model"
    write_model_folder(path, TINY, random_tensors(TINY), VOCAB)
    return path


@pytest.fixture(scope="module")
def runner() -> Runner:
    return make_runner()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "5000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "active"}, None),
    ],
)
def test_threads_wait_asleep_unless_the_user_says_otherwise(
    folder: Path, given: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")  # so that it is put back afterwards
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    open_folder(str(folder), device="cpu").load()
    assert os.environ.get("GOMP_SPINCOUNT") == expected


def test_it_satisfies_the_protocol(folder: Path) -> None:
    model = open_folder(str(folder), device="cpu")
    assert isinstance(model, Model)
    assert model.image_size == (20, 20)
    assert (model.name, model.device, model.dtype) == ("test", "cpu", "float32")
    assert model.is_deterministic


def test_opening_imports_no_torch(folder: Path) -> None:
    code = (
        "import sys; from promptlab.models.dalle import open_folder\n"
        f"model = open_folder({str(folder)!r}, device='cpu')\n"
        "assert len(model.fingerprint) == 16 and model.parameters\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_parameters_are_declared_with_defaults_and_ranges() -> None:
    parameters = open_min_dalle("mini", device="cpu").parameters
    assert normalize_params("m", parameters, {}) == {
        "temperature": 1.0,
        "top_k": 256,
        "supercondition_factor": 16.0,
    }
    with pytest.raises(ParameterError, match="16384"):
        normalize_params("m", parameters, {"top_k": 16385})
    with pytest.raises(ParameterError, match="temperature"):
        normalize_params("m", parameters, {"temperature": 0})


@pytest.mark.parametrize(
    "options", [{"device": "tpu"}, {"dtype": "int8"}, {"batch_size": 0}, {"size": "giga"}]
)
def test_wrong_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        open_min_dalle(**options)  # type: ignore[arg-type]


def test_drawing_before_loading_is_explained(folder: Path) -> None:
    with pytest.raises(ModelError, match="load"):
        open_folder(str(folder), device="cpu").draw([])


def test_every_request_has_one_result_in_the_image_s_size(folder: Path) -> None:
    model = open_folder(str(folder), device="cpu", batch_size=4)
    model.load()
    requests = random_requests(10, seed=1)
    results = list(model.draw(requests))
    assert [result.request for result in results] == requests
    for result in results:
        assert result.error is None
        assert result.pixels is not None
        assert result.pixels.shape == (20, 20, 3)
        assert result.pixels.dtype == np.uint8
        assert result.seconds > 0
    model.unload()
    model.load()
    assert len(list(model.draw(requests[:1]))) == 1


def test_a_failing_request_fails_alone(runner: Runner) -> None:
    good = random_requests(3, seed=2)
    bad = Request("bad", "w5", 1, {**PARAMS, "top_k": 10_000})
    results = {r.request.image_id: r for r in runner.draw([good[0], bad, *good[1:]])}
    assert results["bad"].error is not None
    assert results["bad"].pixels is None
    assert all(results[request.image_id].error is None for request in good)


def test_what_the_model_does_not_see_is_said(runner: Runner) -> None:
    prompt = " ".join(["w5"] * 30) + " zyzzy"
    (result,) = runner.draw([Request("long", prompt, 1, PARAMS)])
    assert result.is_prompt_truncated
    assert "zyzzy" in result.unseen
    assert "cut at 24 tokens" in result.unseen


def test_out_of_memory_halves_the_block_and_changes_no_image(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = random_requests(8, seed=3)
    expected = [result.pixels for result in runner.draw(requests)]
    monkeypatch.setattr("promptlab.models.dalle.runner.MOST_LANES", 1)
    runner = make_runner()
    (lane,) = runner.lanes
    decode, sizes = lane.decode, []

    def limited(batch: Sequence[Request], *rest: object) -> torch.Tensor:
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return decode(batch, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(lane, "decode", limited)
    results = list(runner.draw(requests))
    assert sizes == [8, 4, 2, 2, 2, 2]
    for result, pixels in zip(results, expected, strict=True):
        assert np.array_equal(result.pixels, pixels)


def test_a_block_that_is_too_large_is_refused(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner.sizes, "is_exact", lambda num_images: num_images <= 32)
    with pytest.raises(ModelError, match="at most"):
        runner.draw_block(random_requests(40, seed=9))


def test_previews_show_the_images_so_far_and_change_nothing(runner: Runner) -> None:
    requests = random_requests(3, seed=4)
    seen: list[int] = []

    def on_preview(num_tokens: int, batch: Sequence[Request], pixels: np.ndarray) -> None:
        seen.append(num_tokens)
        assert list(batch) == requests
        assert pixels.shape == (3, 20, 20, 3)

    results = list(runner.draw_with_previews(requests, on_preview, every=10))
    assert seen == [10, 20]
    for result, expected in zip(results, runner.draw(requests), strict=True):
        assert np.array_equal(result.pixels, expected.pixels)


def test_seamless_is_detokenized_as_one_picture(runner: Runner) -> None:
    requests = random_requests(6, seed=5)
    picture = runner.draw_seamless(requests, num_columns=3)
    assert picture.shape == (40, 60, 3)
    tiles = np.concatenate(
        [
            np.concatenate([r.pixels for r in runner.draw(requests[row : row + 3])], axis=1)
            for row in (0, 3)
        ]
    )
    assert not np.array_equal(picture, tiles)  # the seams are gone
    one = runner.draw_seamless(requests[:1], num_columns=1)
    assert np.array_equal(one, next(iter(runner.draw(requests[:1]))).pixels)
    with pytest.raises(ModelError, match="rows of 4"):
        runner.draw_seamless(requests, num_columns=4)


def test_strips_draw_what_whole_layers_draw(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    from promptlab.models.dalle.cpu import strips

    detokenizer = runner.detokenizer
    assert isinstance(detokenizer, StripDetokenizer)
    whole: Detokenizer = detokenizer.network
    tokens = torch.randint(96, (1, 5, 5), generator=torch.Generator().manual_seed(1))
    expected = whole(tokens).int()
    assert expected.float().std() > 5
    monkeypatch.setattr(strips, "LARGE_NUMBERS", 1)
    for numbers_per_strip in (1, 600, 10_000):  # one row, a few rows, all rows
        monkeypatch.setattr(strips, "STRIP_NUMBERS", numbers_per_strip)
        assert (StripDetokenizer(whole)(tokens).int() - expected).abs().max() <= 1


def test_the_step_that_cuda_captures_draws_the_same_tokens(runner: Runner) -> None:
    # Without a GPU the captured step runs uncaptured: another attention kernel, the same logic.
    captured = CudaRunner(
        TINY, random_tensors(TINY), WordTokenizer(VOCAB, TINY.text_length), "float32", "cpu", 8
    )
    requests = random_requests(8, seed=6)
    prompts = [runner.tokenizer.tokenize(request.prompt).ids for request in requests]
    ours, theirs = captured.decode(requests, prompts), runner.decode(requests, prompts)
    assert (ours == theirs).float().mean() > 0.99  # a draw at a boundary may fall either way
    again = captured.decode(requests[::-1], prompts[::-1])
    assert torch.equal(again.flip(0), ours)
    results = list(captured.draw(requests))
    assert [result.request for result in results] == requests
    assert all(result.error is None for result in results)


class Recorder:
    """Stands for a device: notes what is queued and finished, and can run out of memory."""

    def __init__(self, most: int = 100, bad: str = ""):
        self.most, self.bad = most, bad
        self.events: list[str] = []

    def queue(self, batch: Sequence[Request]) -> Sequence[Request]:
        self.events.append(f"queue {len(batch)}")
        if len(batch) > self.most:
            raise torch.OutOfMemoryError("out of memory")
        return batch

    def finish(self, batch: Sequence[Request]) -> list[Result]:
        self.events.append(f"finish {len(batch)}")
        if any(request.image_id == self.bad for request in batch):
            raise ValueError("bad request")
        return [Result(request, pixels=np.zeros((1, 1, 3), np.uint8)) for request in batch]

    def draw_block(self, batch: Sequence[Request]) -> list[Result]:
        return self.finish(self.queue(batch))

    def draw(self, requests: Sequence[Request], size: int) -> list[Result]:
        return list(draw_overlapped(requests, size, self.queue, self.finish, self.draw_block))


def test_a_block_is_finished_while_the_next_one_is_queued() -> None:
    recorder = Recorder()
    requests = random_requests(5, seed=1)
    assert [r.request for r in recorder.draw(requests, 2)] == requests
    assert recorder.events == [
        "queue 2", "queue 2", "finish 2", "queue 1", "finish 2", "finish 1"
    ]  # fmt: skip


@pytest.mark.parametrize("most", [1, 2, 3])
def test_overlapped_drawing_loses_nothing_when_memory_runs_out(most: int) -> None:
    requests = random_requests(13, seed=1)
    results = Recorder(most=most).draw(requests, 8)
    assert sorted(r.request.image_id for r in results) == sorted(r.image_id for r in requests)
    assert all(result.error is None for result in results)


def test_overlapped_drawing_lets_a_bad_request_fail_alone() -> None:
    requests = random_requests(9, seed=1)
    results = Recorder(bad=requests[4].image_id).draw(requests, 4)
    errors = [r.request.image_id for r in results if r.error is not None]
    assert errors == [requests[4].image_id]
    assert len(results) == 9


def test_nothing_to_draw_draws_nothing(runner: Runner) -> None:
    assert list(runner.draw([])) == []
    assert Recorder().draw([], 4) == []
