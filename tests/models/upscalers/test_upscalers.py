"""Upscalers: any size, no seams, the same pixels alone or in any batch."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from promptlab.models.protocol import Model, normalize_params
from promptlab.models.upscalers import UpscalerModel, open_embedded, open_lanczos
from promptlab.models.upscalers.compact import CompactUpscaler
from promptlab.models.upscalers.tiles import upscale_in_tiles
from promptlab.records import Request, Source

SIZES = [(1, 1), (1, 7), (9, 1), (5, 8), (33, 31)]  # (height, width) in px


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return soft blobs with hard edges, as drawings have them."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    channels = []
    for phase in rng.uniform(0, 6, 3):
        wave = np.sin(columns / 5 + phase) + np.cos(rows / 4 - phase)
        channels.append(np.where(wave > 0.4, 230, 60 + 40 * wave))
    return np.stack(channels, axis=-1).clip(0, 255).astype(np.uint8)


def request_of(pixels: np.ndarray, model: UpscalerModel, number: int = 0, **params) -> Request:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    source = Source(f"{number:016x}", "", buffer.getvalue())
    whole = normalize_params(model.name, model.parameters, params)
    return Request(f"{number:016x}", "a fox", 0, whole, source)


@pytest.fixture(scope="module", params=[open_embedded, open_lanczos])
def model(request):
    opened = request.param(**({"device": "cpu"} if request.param is open_embedded else {}))
    opened.load()
    yield opened
    opened.unload()


def test_an_upscaler_is_a_model_that_takes_a_source(model):
    assert isinstance(model, Model)
    assert model.takes_source
    assert len(model.fingerprint) == 16


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scale", [2, 4])
def test_any_size_comes_out_exactly_scale_times_as_large(model, size, scale):
    height, width = size
    (result,) = model.draw([request_of(picture(height, width), model, scale=scale)])
    assert result.error is None
    assert result.pixels.shape == (scale * height, scale * width, 3)
    assert result.pixels.dtype == np.uint8


def test_an_image_is_the_same_alone_and_in_any_batch(model):
    requests = [
        request_of(picture(20 + number, 24, number), model, number, scale=2 + 2 * (number % 2))
        for number in range(5)
    ]
    alone = {r.image_id: next(iter(model.draw([r]))).pixels for r in requests}
    for result in model.draw(requests[::-1]):
        assert np.array_equal(result.pixels, alone[result.request.image_id])


def test_a_flat_picture_keeps_its_color(model):
    flat = np.full((12, 16, 3), (200, 120, 40), np.uint8)
    (result,) = model.draw([request_of(flat, model)])
    assert np.abs(result.pixels.astype(int) - flat[0, 0]).max() <= 8


def test_the_embedded_network_is_nearer_to_the_truth_than_interpolation():
    drawing = Image.new("RGB", (640, 640), "white")
    pen = ImageDraw.Draw(drawing)
    pen.ellipse((100, 120, 500, 550), fill=(220, 60, 30))
    pen.polygon([(300, 50), (600, 250), (450, 600)], fill=(30, 90, 200))
    truth = np.asarray(drawing.resize((320, 320), Image.Resampling.BOX))
    small = np.asarray(drawing.resize((80, 80), Image.Resampling.BOX))

    def error(opened: UpscalerModel) -> float:
        opened.load()
        (result,) = opened.draw([request_of(small, opened)])
        return float(np.square(result.pixels.astype(float) - truth).mean())

    assert error(open_embedded("cpu")) < 0.9 * error(open_lanczos())


def test_tiles_show_no_seam():
    upscaler = CompactUpscaler("cpu")
    upscaler.load()
    pixels = picture(75, 90)
    whole = upscaler.upscale(pixels)  # one tile
    margin = sum(bias is not None for _, bias in upscaler._layers)
    tiled = upscale_in_tiles(pixels, upscaler._enlarge, 4, margin, tile_px=32)
    assert np.abs(whole.astype(int) - tiled).max() <= 1


def test_a_margin_that_is_too_narrow_shows():
    upscaler = CompactUpscaler("cpu")
    upscaler.load()
    pixels = picture(75, 90)
    tiled = upscale_in_tiles(pixels, upscaler._enlarge, 4, margin_px=1, tile_px=32)
    assert np.abs(upscaler.upscale(pixels).astype(int) - tiled).max() > 1


def test_a_source_that_is_no_picture_fails_its_request_alone(model):
    good = request_of(picture(8, 8), model, 1)
    broken = dataclasses.replace(good, image_id="b" * 16, source=Source("b" * 16, "", b"no PNG"))
    missing = dataclasses.replace(good, image_id="c" * 16, source=None)
    results = list(model.draw([broken, good, missing]))
    assert [result.error is None for result in results] == [False, True, False]
    assert "without a source" in results[2].error


def test_a_picture_with_transparency_becomes_rgb(model):
    rgba = np.dstack([picture(8, 8), np.full((8, 8), 128, np.uint8)])
    (result,) = model.draw([request_of(rgba, model)])
    assert result.pixels.shape == (32, 32, 3)


def test_a_picture_that_would_become_too_large_is_refused(model, monkeypatch):
    monkeypatch.setattr("promptlab.models.upscalers.model.MAX_OUTPUT_PIXELS", 100)
    (result,) = model.draw([request_of(picture(8, 8), model)])
    assert "choose a smaller image" in result.error
