"""PNG files hold exactly the pixels, and what made them, for people's other tools too."""

import io
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from promptlab.store.png import encode_png, read_facts

FACTS = {
    "prompt": "a fox",
    "seed": 5,
    "params": {"temperature": 0.7, "top_k": 64, "supercondition_factor": 16.0},
    "model": "tiny",
    "model_fingerprint": "0123456789abcdef",
    "promptlab_version": "0.1.0",
}
PARAMS_LINE = "Steps: 100, Sampler: top-k, Top k: 64"


@given(
    arrays.arrays(
        np.uint8,
        st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)),
    )
)
def test_any_pixels_come_back_as_they_were(pixels):
    image = Image.open(io.BytesIO(encode_png(pixels, FACTS, PARAMS_LINE)))
    image.load()
    assert image.mode == "RGB"
    assert (np.asarray(image) == pixels).all()


def test_the_parameters_text_is_what_other_tools_parse():
    image = Image.open(io.BytesIO(encode_png(np.zeros((4, 6, 3), np.uint8), FACTS, PARAMS_LINE)))
    prompt, settings = image.text["parameters"].split("\n")
    assert prompt == "a fox"
    assert settings == (
        "Steps: 100, Sampler: top-k, Top k: 64, Seed: 5, Size: 6x4, "
        "Model hash: 0123456789abcdef, Model: tiny, Version: promptlab 0.1.0"
    )
    assert dict(re.findall(r"([\w ]+): ([^,]+)(?:, |$)", settings))["Seed"] == "5"


@pytest.mark.parametrize(
    "prompt", ["plain", "café", "🦊 狐", "nul\0 inside", "two\nlines", "\udce9"]
)
def test_facts_survive_whatever_the_prompt_holds(prompt):
    png = encode_png(np.zeros((2, 2, 3), np.uint8), {**FACTS, "prompt": prompt}, PARAMS_LINE)
    assert read_facts(png) == {**FACTS, "prompt": prompt}
    Image.open(io.BytesIO(png)).verify()


def test_a_foreign_png_has_no_facts():
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2)).save(buffer, "png")
    assert read_facts(buffer.getvalue()) == {}


def test_the_same_image_is_the_same_file_whenever_it_is_drawn():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    assert encode_png(pixels, FACTS, PARAMS_LINE) == encode_png(
        pixels.copy(), dict(reversed(FACTS.items())), PARAMS_LINE
    )
