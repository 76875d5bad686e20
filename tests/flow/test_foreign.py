"""What other tools' files say is read as they mean it, and never more than a column can hold."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from promptlab.flow import foreign
from promptlab.flow.foreign import read_image

pytest.importorskip("sd_parsers", reason="the extra promptlab[import] is not installed")

GREY = Image.new("RGB", (4, 3), (10, 20, 30))


def save(path: Path, image: Image.Image = GREY, **texts: str) -> Path:
    info = PngInfo()
    for key, text in texts.items():
        info.add_itxt(key, text)
    image.save(path, pnginfo=info)
    return path


def own(path: Path, **facts) -> Path:
    """Save an image with promptlab's own label."""
    known = {"prompt": "a fox", "seed": 3, "model": "tiny", "model_fingerprint": "ab"}
    return save(path, promptlab=json.dumps({**known, "params": {}, **facts}))


def test_transparent_pixels_lie_on_white(tmp_path):
    image = Image.new("RGBA", (2, 1), (10, 20, 30, 255))
    image.putpixel((1, 0), (10, 20, 30, 0))
    pixels, _ = read_image(save(tmp_path / "a.png", image))
    assert pixels.tolist() == [[[10, 20, 30], [255, 255, 255]]]
    assert (pixels.dtype, pixels.shape) == (np.uint8, (1, 2, 3))


def test_a_file_without_texts_is_of_nobody(tmp_path):
    _, origin = read_image(save(tmp_path / "a.png"))
    assert (origin.tool, origin.prompt, origin.seed, origin.model) == ("", "", None, "unknown")


def test_promptlabs_own_label_counts_before_the_text_for_other_tools(tmp_path):
    path = tmp_path / "a.png"
    facts = {"prompt": "a fox", "seed": 3, "model": "tiny", "model_fingerprint": "ab"}
    label = json.dumps({**facts, "params": {"top_k": 8}})
    save(path, promptlab=label, parameters="another\nSteps: 20, Seed: 9, Model: other")
    _, origin = read_image(path)
    assert (origin.tool, origin.prompt, origin.seed) == ("promptlab", "a fox", 3)
    assert (origin.model, origin.model_hash, origin.params) == ("tiny", "ab", {"top_k": 8})


def test_a_label_that_is_not_whole_is_none(tmp_path):
    for number, text in enumerate(("[]", "{", '{"prompt": "x"}', "3")):
        _, origin = read_image(save(tmp_path / f"{number}.png", promptlab=text))
        assert origin.tool == ""


@pytest.mark.parametrize(
    ("seed", "expected"),
    [
        *((0, 0), ("7", 7), (2**63 - 1, 2**63 - 1), (2**63, None), (-1, None)),
        *(("many", None), (None, None), (1e400, None)),
    ],
)
def test_a_seed_is_one_that_a_column_holds_or_none(tmp_path, seed, expected):
    assert read_image(own(tmp_path / "a.png", seed=seed))[1].seed == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            {"CFG scale": "7.5", "Sampler name": "euler"},
            {"guidance_scale": 7.5, "sampler": "euler"},
        ),
        ({"cfg": 2, "Schedule type": "Karras"}, {"guidance_scale": 2, "scheduler": "Karras"}),
        ({"Denoising strength": "0.4"}, {"strength": 0.4}),
        ({"steps": "020", "tiling": True}, {"steps": 20, "tiling": True}),
        ({" Odd-Name! ": " x "}, {"odd_name": "x"}),
        ({"list": [1], "nothing": None, "": 3, "empty": " "}, {}),
        (
            {"far": 1e300, "nan": "nan", "big": 2**62},
            {"far": "1e+300", "nan": "nan", "big": str(2**62)},
        ),
        ({"text": "a\0b"}, {"text": "ab"}),
        ({"cfg": 2, "cfg_scale": 3}, {"guidance_scale": 2}),
    ],
)
def test_parameters_are_plain_values_under_the_names_that_promptlab_knows(
    tmp_path, given, expected
):
    found = dict(read_image(own(tmp_path / "a.png", params=given))[1].params)
    assert found == expected
    assert {name: type(value) for name, value in found.items()} == {
        name: type(value) for name, value in expected.items()
    }


@pytest.mark.parametrize("most", [11, 12])
def test_an_image_of_more_pixels_than_are_read_is_refused(tmp_path, monkeypatch, most):
    monkeypatch.setattr(foreign, "MAX_PIXELS", most)
    path = save(tmp_path / "a.png")
    if most == 12:
        assert read_image(path)[0].shape == (3, 4, 3)
        return
    with pytest.raises(ValueError, match="4 × 3 px are too many"):
        read_image(path)


def test_a_long_text_is_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(foreign, "MAX_TEXT", 5)
    parameters = {"note": "x" * 9}
    path = own(tmp_path / "a.png", params=parameters)
    assert read_image(path)[1].params == {"note": "xxxxx"}
