"""An image's bits depend on its request and the size of a batch, on nothing else."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from promptlab.records import Request
from tests.models.diffusers.conftest import Opened

PROMPTS = ("a fox", "a robot in deep snow, at night", "x", "two red houses by the sea " * 5)
MAIN = ("sd15", "sdxl", "sd3", "flux", "z_image")
FURTHER = ("flux2_klein", "qwen_image", "sana")
GUIDANCE = {
    "sd15": "guidance_scale",
    "sdxl": "guidance_scale",
    "sd3": "guidance_scale",
    "sana": "guidance_scale",
    "flux": "true_cfg_scale",
    "qwen_image": "true_cfg_scale",
    "z_image": "added_guidance_scale",
}


def settings_of(family: str, loras: list[Path]) -> list[dict[str, Any]]:
    """Return parameters of groups that a pipeline must be set up anew for."""
    guidance = GUIDANCE.get(family)
    return [
        {guidance: 4.0} if guidance else {},
        {"lora": f"{loras[0]}:0.7"},
        {guidance: 0.0, "steps": 3} if guidance else {"steps": 3},
        {"lora": f"{loras[0]} + {loras[1]}:0.4", "lora_scale": 0.5},
    ]


def mixed_requests(opened: Opened, settings: list[dict[str, Any]]) -> list[Request]:
    """Return requests that differ in all that one may sweep, each prompt once a group."""
    requests = []
    for number, options in enumerate(settings):
        for seed, prompt in enumerate(PROMPTS):
            has_negative = "negative_prompt" in opened.model.parameters and seed % 2
            negative = {"negative_prompt": "blurry"} if has_negative else {}
            requests.append(opened.request(prompt, seed + number, **options, **negative))
    return requests


def check_compositions(opened: Opened, requests: list[Request], number: int) -> None:
    """Draw random selections of the requests, in random orders; compare with each alone."""
    alone = {request.image_id: opened.pixels(request)[0] for request in requests}
    assert len(set(alone.values())) == len(requests)
    choose = random.Random(0)
    for _ in range(number):
        chosen = choose.sample(requests, choose.randint(2, 9))
        if choose.random() < 0.5:  # the engine's order: group by group
            chosen.sort(key=lambda request: repr(opened.model.group_of(request)))
        expected = [alone[request.image_id] for request in chosen]
        assert opened.pixels(*chosen) == expected


@pytest.mark.parametrize("family", MAIN)
def test_an_image_is_the_same_in_any_slot_beside_any_neighbours(load, build_lora, family):
    opened = load(family)
    settings = settings_of(family, [build_lora(family, seed) for seed in (1, 2)])[:2]
    check_compositions(opened, mixed_requests(opened, settings), 2)
    assert opened.model.is_deterministic


@pytest.mark.slow
@pytest.mark.parametrize("family", [*MAIN, *FURTHER])
def test_an_image_is_the_same_in_fifty_compositions(load, build_lora, family):
    opened = load(family)
    settings = settings_of(family, [build_lora(family, seed) for seed in (1, 2)])
    check_compositions(opened, mixed_requests(opened, settings), 50)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sd15", "flux", "z_image"])
def test_an_image_is_the_same_in_fifty_compositions_in_bfloat16(load, build_lora, family):
    opened = load(family, dtype="bfloat16")
    settings = settings_of(family, [build_lora(family, seed) for seed in (1, 2)])
    check_compositions(opened, mixed_requests(opened, settings), 50)


@pytest.mark.parametrize("family", ["sd15", "flux"])
def test_an_image_is_the_same_in_any_batch_in_bfloat16(load, build_lora, family):
    opened = load(family, dtype="bfloat16")
    settings = settings_of(family, [build_lora(family, seed) for seed in (1, 2)])[:2]
    check_compositions(opened, mixed_requests(opened, settings), 1)


@pytest.mark.parametrize("family", FURTHER)
def test_every_family_repeats_its_images(load, family):
    opened = load(family)
    requests = mixed_requests(opened, [{}])
    first = opened.pixels(*requests)
    assert opened.pixels(*requests[::-1]) == first[::-1]
    assert len(set(first)) == len(first)
    assert opened.model.is_deterministic


def test_alone_an_image_has_the_bits_of_diffusers_own_call(load, build):
    import torch
    from diffusers import StableDiffusionPipeline

    opened = load("sd15", batch_size=1)
    request = opened.request("a fox", seed=5, negative_prompt="blurry", guidance_scale=6.0)
    pipeline = StableDiffusionPipeline.from_pretrained(str(build("sd15")), local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline(
        "a fox",
        negative_prompt="blurry",
        guidance_scale=6.0,
        width=32,
        height=32,
        num_inference_steps=2,
        generator=torch.Generator("cpu").manual_seed(5),
    ).images[0]
    assert opened.pixels(request) == [image.tobytes()]


@pytest.mark.parametrize("family", ["sd15", "sd3"])
def test_every_scheduler_repeats_its_images_whatever_was_drawn_before(load, family):
    import torch

    opened = load(family)
    images = {}
    for name in opened.model.parameters["scheduler"].choices:
        requests = [opened.request("a fox", seed, scheduler=name, steps=4) for seed in (0, 1)]
        torch.manual_seed(0)
        first = opened.pixels(*requests)
        torch.manual_seed(1)  # a scheduler that draws from global state shows here
        assert opened.pixels(*requests[::-1]) == first[::-1], name
        images[name] = first[0]
    assert len(set(images.values())) >= len(images) - 2  # "default" is one of the others


def test_solvers_of_a_flow_model_keep_the_checkpoints_shift(load):
    painter = load("sd3").model._painter
    from promptlab.models.diffusers.loading import make_scheduler

    middles = {}
    for name in ("euler", "dpmpp_2m", "unipc", "deis"):
        scheduler = make_scheduler(painter._scheduler, name, load("sd3").model.family)
        scheduler.set_timesteps(8)
        middles[name] = float(scheduler.sigmas[4])
    assert min(middles.values()) > 0.65, middles  # 0.5 without the shift of 3


def test_previews_show_the_image_growing_and_change_nothing(load):
    for family in (*MAIN, "qwen_image", "sana"):
        opened = load(family)
        requests = [opened.request("a fox", seed, steps=4) for seed in (0, 1)]
        previews: list[tuple[Any, ...]] = []
        results = opened.model.draw_with_previews(
            requests, lambda *preview, found=previews: found.append(preview), every=2
        )
        drawn = [result.pixels for result in results]
        assert [image.tobytes() for image in drawn] == opened.pixels(*requests), family
        assert [(step, len(batch)) for step, batch, _ in previews] == [(2, 2), (4, 2)]
        last = previews[-1][2][0].astype(int)
        assert abs(last - drawn[0].astype(int)).max() <= 2, family  # decoded one at a time or not
