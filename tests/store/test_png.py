"""PNG files hold exactly the pixels, and what made them, for people's other tools too."""

import io
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from promptlab.png import compress, drop_texts, hash_pixels, read_latent
from promptlab.store.png import Label, read_facts, wrap

FACTS = {
    "prompt": "a fox",
    "seed": 5,
    "params": {"temperature": 0.7, "top_k": 64, "supercondition_factor": 16.0},
    "model": "tiny",
    "model_fingerprint": "0123456789abcdef",
    "promptlab_version": "0.1.0",
}
PARAMS_LINE = "Steps: 100, Sampler: top-k, Top k: 64"


def label_pixels(pixels, **facts):
    height, width = pixels.shape[:2]
    return wrap(compress(pixels), Label({**FACTS, **facts}, PARAMS_LINE), width, height)


@given(
    arrays.arrays(
        np.uint8,
        st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)),
    )
)
def test_any_pixels_come_back_as_they_were(pixels):
    image = Image.open(io.BytesIO(label_pixels(pixels)))
    image.load()
    assert image.mode == "RGB"
    assert (np.asarray(image) == pixels).all()


def test_the_parameters_text_is_what_other_tools_parse():
    image = Image.open(io.BytesIO(label_pixels(np.zeros((4, 6, 3), np.uint8))))
    prompt, settings = image.text["parameters"].split("\n")
    assert prompt == "a fox"
    assert settings == (
        "Steps: 100, Sampler: top-k, Top k: 64, Seed: 5, Size: 6x4, "
        "Model hash: 0123456789abcdef, Model: tiny, Version: promptlab 0.1.0"
    )
    assert dict(re.findall(r"([\w ]+): ([^,]+)(?:, |$)", settings))["Seed"] == "5"


@pytest.mark.parametrize("name", ["a: b", "a, b", "a\nb", "a\r\n, b:"])
def test_no_name_of_a_model_breaks_the_line_of_settings(name):
    pixels = np.zeros((4, 6, 3), np.uint8)
    image = Image.open(io.BytesIO(label_pixels(pixels, model=name, model_fingerprint=name)))
    lines = image.text["parameters"].split("\n")
    assert len(lines) == 2
    settings = dict(setting.split(": ") for setting in lines[1].split(", "))
    assert list(settings) == [
        *("Steps", "Sampler", "Top k", "Seed", "Size", "Model hash", "Model", "Version")
    ]
    assert settings["Model"].split() == ["a", "b"]


@pytest.mark.parametrize("prompt", ["plain", "café", "🦊 狐", "nul\0 inside", "two\nlines"])
def test_facts_survive_whatever_the_prompt_holds(prompt):
    png = label_pixels(np.zeros((2, 2, 3), np.uint8), prompt=prompt)
    assert read_facts(png) == {**FACTS, "prompt": prompt}
    Image.open(io.BytesIO(png)).verify()


def test_a_foreign_png_has_no_facts():
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2)).save(buffer, "png")
    assert read_facts(buffer.getvalue()) == {}


def test_the_latent_is_in_a_chunk_that_old_files_have_and_that_editors_of_pixels_drop():
    png = compress(np.zeros((2, 2, 3), np.uint8), b"tokens")
    kind = png[37:41]  # after the signature, the header and a length
    assert kind == b"plLT"
    is_optional, is_private, is_reserved, is_safe_to_copy = (bool(byte & 32) for byte in kind)
    assert (is_optional, is_private) == (True, True)
    assert (is_reserved, is_safe_to_copy) == (False, False)
    labelled = wrap(png, Label(FACTS, PARAMS_LINE), 2, 2)
    assert read_latent(labelled) == read_latent(drop_texts(labelled)) == b"tokens"
    assert read_latent(compress(np.zeros((2, 2, 3), np.uint8))) == b""


def test_the_same_image_is_the_same_file_whenever_it_is_drawn():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    assert label_pixels(pixels) == label_pixels(pixels.copy(), **dict(reversed(FACTS.items())))


def test_texts_can_be_exchanged_without_compressing_again():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    one = label_pixels(pixels)
    assert drop_texts(one) == compress(pixels)
    other = wrap(drop_texts(one), Label({**FACTS, "prompt": "Füchslein 🦊"}, PARAMS_LINE), 8, 8)
    assert read_facts(other)["prompt"] == "Füchslein 🦊"
    assert other == label_pixels(pixels, prompt="Füchslein 🦊")


@pytest.mark.parametrize(
    "view",
    [np.s_[::-1], np.s_[:, ::2], np.s_[:, :, ::-1], np.s_[1:5, 2:7]],
    ids=["upside down", "every other column", "BGR", "a cutting"],
)
def test_pixels_that_lie_in_memory_in_another_order_are_the_same_image(view):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)[view]
    copy = np.ascontiguousarray(pixels)
    assert hash_pixels(pixels) == hash_pixels(copy)
    assert compress(pixels) == compress(copy)
    assert (np.asarray(Image.open(io.BytesIO(compress(pixels)))) == copy).all()
