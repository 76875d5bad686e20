"""Upscalers from files: small random networks of real architectures, saved and read again."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from promptlab.errors import ModelError, WeightsMissingError
from promptlab.models.upscalers import open_embedded, open_file
from promptlab.models.upscalers.compact import WEIGHTS
from promptlab.models.upscalers.files import import_spandrel
from tests.conftest import Project
from tests.models.upscalers.test_upscalers import picture, request_of

import_spandrel()


def network(name: str, **sizes: object) -> torch.nn.Module:
    """Return a small random network of one of spandrel's architectures."""
    architecture, module, kind = name.split(".")
    place = f"spandrel.architectures.{architecture}.__arch.{module}"
    built: torch.nn.Module = getattr(importlib.import_module(place), kind)(**sizes)
    return built


def compact(scale: int) -> torch.nn.Module:
    sizes = {"num_feat": 8, "num_conv": 2, "upscale": scale, "act_type": "prelu"}
    return network("Compact.SRVGG.SRVGGNetCompact", **sizes)


def esrgan(scale: int) -> torch.nn.Module:
    return network("ESRGAN.RRDB.RRDBNet", num_filters=8, num_blocks=1, scale=scale)


@pytest.mark.parametrize(("build", "scale"), [(compact, 2), (compact, 4), (esrgan, 4)])
def test_a_network_in_a_file_enlarges_any_size_alone_and_in_any_batch(tmp_path, build, scale):
    torch.manual_seed(0)
    path = tmp_path / "mine.safetensors"
    save_file(build(scale).state_dict(), path)
    model = open_file(str(path), scale, "cpu")
    assert (model.name, model.needs_source) == ("mine", True)
    model.load()
    sizes = [(1, 1), (9, 6), (33, 31)]
    requests = [request_of(picture(*size), model, number) for number, size in enumerate(sizes)]
    alone = [next(iter(model.draw([request]))).pixels for request in requests]
    for result, pixels, (height, width) in zip(model.draw(requests), alone, sizes, strict=True):
        assert result.error is None
        assert result.pixels.shape == (scale * height, scale * width, 3)
        assert np.array_equal(result.pixels, pixels)


def test_the_embedded_network_is_what_spandrel_computes_from_its_weights(tmp_path):
    network = {f"body.{name}": t.float() for name, t in load_file(WEIGHTS).items()}
    save_file(network, tmp_path / "animevideov3.safetensors")
    theirs, ours = open_file(str(tmp_path / "animevideov3.safetensors"), 4, "cpu"), open_embedded()
    pixels = picture(24, 40)
    for model in (theirs, ours):
        model.load()
    drawn = [next(iter(m.draw([request_of(pixels, m)]))).pixels for m in (theirs, ours)]
    assert np.abs(drawn[0].astype(int) - drawn[1]).max() <= 1


def test_what_cannot_be_used_is_refused_in_words(tmp_path):
    with pytest.raises(WeightsMissingError, match="There is no upscaler at"):
        open_file(str(tmp_path / "gone.pth"))
    noise = tmp_path / "noise.safetensors"
    save_file({"weight": torch.zeros(3)}, noise)
    with pytest.raises(ModelError, match="no upscaler that spandrel knows"):
        open_file(str(noise)).load()
    save_file(compact(2).state_dict(), noise)
    with pytest.raises(ModelError, match=r"set model\.scale=2"):
        open_file(str(noise), 4).load()


def test_a_sweep_enlarges_with_a_file(project: Project):
    save_file(compact(2).state_dict(), project.path / "mine.safetensors")
    assert project.run("sweep", "subject=a fox", "seeds=2").code == 0
    words = ("model.path=mine.safetensors", "model.scale=2", "tracking=null")
    done = project.run("upscale", "--model", "upscaler", *words)
    assert done.code == 0, done.err
    assert {(row["model"], row["width"]) for row in project.rows()} == {("mine", 64)}
    assert project.run("verify").out == "2 of 2 images are bit for bit the same.\n"
