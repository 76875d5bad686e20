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
from promptlab.models.dalle.cpu_runner import CpuRunner
from promptlab.models.dalle.detokenizer import load_detokenizer
from promptlab.models.dalle.strip_detokenizer import StripDetokenizer
from promptlab.models.dalle.weights import write_model_folder
from promptlab.models.protocol import Model, normalize_params
from promptlab.records import Request
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
def runner() -> CpuRunner:
    return make_runner()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "set"),
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
    found = os.environ.get("GOMP_SPINCOUNT")
    assert found == expected if expected != "set" else int(found or 0) > 0


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
        "strength": 0.5,
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


def test_a_failing_request_fails_alone(runner: CpuRunner) -> None:
    good = random_requests(3, seed=2)
    bad = Request("bad", "w5", 1, {**PARAMS, "top_k": 10_000})
    results = {r.request.image_id: r for r in runner.draw([good[0], bad, *good[1:]])}
    assert results["bad"].error is not None
    assert results["bad"].pixels is None
    assert all(results[request.image_id].error is None for request in good)


def test_what_the_model_does_not_see_is_said(runner: CpuRunner) -> None:
    prompt = " ".join(["w5"] * 30) + " zyzzy"
    (result,) = runner.draw([Request("long", prompt, 1, PARAMS)])
    assert result.is_prompt_truncated
    assert "zyzzy" in result.unseen
    assert "cut at 24 tokens" in result.unseen


def test_out_of_memory_halves_the_block_and_changes_no_image(
    runner: CpuRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = random_requests(8, seed=3)
    expected = [result.pixels for result in runner.draw(requests)]
    monkeypatch.setattr("promptlab.models.dalle.cpu.lanes.MOST_LANES", 1)
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
    runner: CpuRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner.sizes, "is_exact", lambda num_images: num_images <= 32)
    with pytest.raises(ModelError, match="at most"):
        runner.draw_block(random_requests(40, seed=9))


def test_previews_show_the_images_so_far_and_change_nothing(runner: CpuRunner) -> None:
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


def test_seamless_is_detokenized_as_one_picture(runner: CpuRunner) -> None:
    requests = random_requests(6, seed=5)
    picture = runner.draw_seamless(requests, num_columns=3)
    assert picture.shape == (40, 60, 3)
    prompts = [runner.tokenizer.tokenize(request.prompt).ids for request in requests]
    tiles = runner.decode(requests, prompts).view(6, 5, 5)
    whole = load_detokenizer(random_tensors(TINY), TINY, torch.float32, "cpu")
    rows = [torch.cat(list(tiles[first : first + 3]), 1) for first in (0, 3)]
    expected = whole(torch.cat(rows)[None])[0].numpy()
    assert abs(picture.astype(int) - expected).max() <= 1
    one = runner.draw_seamless(requests[:1], num_columns=1)
    assert np.array_equal(one, next(iter(runner.draw(requests[:1]))).pixels)
    with pytest.raises(ModelError, match="rows of 4"):
        runner.draw_seamless(requests, num_columns=4)


def test_strips_draw_what_whole_layers_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    from promptlab.models.dalle.cpu import strips

    whole = load_detokenizer(random_tensors(TINY), TINY, torch.float32, "cpu")
    tokens = torch.randint(96, (1, 5, 5), generator=torch.Generator().manual_seed(1))
    expected = whole(tokens).int()
    assert expected.float().std() > 5
    monkeypatch.setattr(strips, "LARGE_NUMBERS", 1)
    for numbers_per_strip in (1, 600, 10_000):  # one row, a few rows, all rows
        monkeypatch.setattr(strips, "STRIP_NUMBERS", numbers_per_strip)
        assert (StripDetokenizer(whole)(tokens).int() - expected).abs().max() <= 1


def test_nothing_to_draw_draws_nothing(runner: CpuRunner) -> None:
    assert list(runner.draw([])) == []
