"""An image drawn from another one by image-to-image, as exact as any."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from promptlab.errors import ParameterError
from promptlab.models.diffusers.families import find_family
from promptlab.png import hash_pixels
from promptlab.records import Request, Source
from tests.models.diffusers.conftest import Opened
from tests.models.diffusers.test_exactness import GUIDANCE
from tests.models.diffusers.test_plans import FAMILIES as GUIDANCES

FAMILIES = ("sd15", "sdxl", "sd3", "flux", "z_image", "qwen_image")


def picture(width: int, height: int, seed: int = 0) -> Source:
    """Return a smooth picture of colours as a source."""
    small = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, "PNG")
    return Source(f"{seed:016x}", hash_pixels(np.asarray(image)), file.getvalue())


def variations(opened: Opened, family: str) -> list[Request]:
    """Return requests from two parents, one of an odd size, and one from none."""
    guidance = {GUIDANCE[family]: 3.0}
    parents = picture(32, 32, 1), picture(47, 61, 2)
    found = [
        opened.request("a fox", seed, source, strength=strength, steps=4, **guidance)
        for source in parents
        for strength in (0.5, 0.75)
        for seed in (0, 1)
    ]
    return [*found, opened.request("a fox", 0, steps=4, **guidance)]


def check(opened: Opened, family: str) -> None:
    requests = variations(opened, family)
    alone = [opened.pixels(request)[0] for request in requests]
    assert len(set(alone)) == len(requests)
    assert opened.pixels(*requests) == alone
    assert opened.pixels(*requests[::-1]) == alone[::-1]
    mixed = sorted(requests, key=lambda request: request.seed)
    assert opened.pixels(*mixed) == [alone[requests.index(request)] for request in mixed]
    assert opened.model.is_deterministic


@pytest.mark.parametrize("family", ["sd15", "flux"])
def test_a_variation_is_the_same_in_any_slot_beside_any_neighbours(load, family):
    check(load(family), family)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_variations_of_every_family_are_exact(load, family, dtype):
    check(load(family, dtype=dtype), family)


def test_families_take_a_source_where_diffusers_draws_from_one_with_a_strength(build):
    import inspect

    build("sd15")
    from diffusers.pipelines import auto_pipeline as auto

    assert {find_family(pipeline, {}).name for pipeline in GUIDANCES} > set(FAMILIES)
    for pipeline in GUIDANCES:
        find = auto._get_task_class, auto.AUTO_IMAGE2IMAGE_PIPELINES_MAPPING
        other = find[0](find[1], pipeline, throw_error_if_not_exist=False)
        has_strength = other and "strength" in inspect.signature(other.__call__).parameters
        assert find_family(pipeline, {}).takes_source == bool(has_strength), pipeline


def test_a_weak_strength_keeps_more_of_the_parent(load):
    opened = load("sd15")
    source = picture(32, 32)

    def distance(strength: float) -> float:
        requests = [
            opened.request("a fox", seed, source, strength=strength, steps=10) for seed in (0, 1)
        ]
        first, second = (np.frombuffer(p, np.uint8).astype(int) for p in opened.pixels(*requests))
        return float(abs(first - second).mean())

    assert distance(0.1) < distance(0.5) < distance(1.0)


def test_a_strength_that_leaves_no_step_is_refused_while_planning(load):
    opened = load("sd15")
    with pytest.raises(ParameterError, match=r"strength=0\.1 of 4 steps leaves no step: .* 0\.25"):
        opened.request("a fox", 0, picture(32, 32), strength=0.1, steps=4)
    with pytest.raises(ParameterError, match=r"strength=1\.5: expected a number from 0 to 1"):
        opened.request("a fox", 0, picture(32, 32), strength=1.5)


def test_a_parent_of_another_size_is_scaled_until_it_covers_the_image_and_cut_at_the_sides(load):
    from promptlab.models.diffusers.painter import read_source

    stripes = np.zeros((20, 60, 3), np.uint8)
    stripes[:, :20], stripes[:, 20:40], stripes[:, 40:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    file = io.BytesIO()
    Image.fromarray(stripes).save(file, "PNG")
    source = Source("a" * 16, "b" * 64, file.getvalue())
    read = read_source(load("sd15").request("a fox", 0, source, steps=4))
    assert read.size == (32, 32)
    assert np.asarray(read)[:, 4:-4].reshape(-1, 3).tolist() == [[0, 255, 0]] * 32 * 24


def test_a_source_that_cannot_be_read_fails_alone(load):
    opened = load("sd15")
    good = opened.request("a fox", 0, picture(32, 32), steps=4)
    bad = opened.request("a fox", 1, Source("c" * 16, "d" * 64, b"no PNG"), steps=4)
    results = opened.draw(good, bad)
    assert results[good.image_id].error is None
    assert "cannot identify image" in results[bad.image_id].error


def test_a_variation_from_the_command_line_is_verified_and_drawn_again(project, build):
    from promptlab.cli import main

    model = ["model=diffusers", f"model.path={build('sd15')}", "steps=4", "width=32", "height=32"]
    arguments = ["sweep", "-m", *model, "tracking=null"]
    assert main([*arguments, "subject=a fox"]) == 0
    (parent,) = project.rows()
    from_parent = [*arguments, "subject=a robot", f"parent='{parent['image_id']}'"]
    assert main([*from_parent, "strength=0.5,0.9"]) == 0
    rows = project.rows()
    assert [row["status"] for row in rows] == ["ok", "ok"]
    assert {row["source_id"] for row in rows} == {parent["image_id"]}
    assert len({row["sha256"] for row in rows}) == 2
    assert main(["verify", str(project.runs[-1])]) == 0
    project.capsys.readouterr()
    assert main(["show", rows[0]["image_id"]]) == 0
    assert f"parent={parent['image_id']}" in project.capsys.readouterr().out.replace('"', "")
    other = ["model=diffusers", f"model.path={build('sana')}", "steps=4"]
    refused = main(["sweep", *other, "subject=x", f"parent='{parent['image_id']}'", "--plan"])
    assert refused == 1
    assert "draws from no image" in project.capsys.readouterr().err
