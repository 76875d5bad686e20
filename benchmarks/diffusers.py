"""promptlab against the loop that people write around a pipeline of diffusers.

    python -m benchmarks.diffusers                    a tiny random Stable Diffusion 1.5
    python -m benchmarks.diffusers --model FOLDER     a saved pipeline, on the GPU if there is one

The loop calls `pipeline(prompt, generator=…)` per image, saves a PNG and calls `log_image`, one
MLflow run per prompt. promptlab draws the same prompts and seeds and writes PNG, Parquet and
MLflow. Both load the same weights before the clock starts, and take turns. It prints a table, then
one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.logging_sweeps import NUM_SEEDS, draw_with_pipeline, make_plan
from promptlab.models.diffusers import DiffusersModel, open_pipeline
from promptlab.models.diffusers.libraries import import_diffusers
from promptlab.models.machine import find_device
from promptlab.models.protocol import normalize_params
from promptlab.planning.plan import Plan


def draw_in_a_loop(pipeline: Any, root: str, plan: Plan, call: dict[str, Any], uri: str) -> float:
    """Draw a plan as a first script does; return the seconds."""
    import torch
    from mlflow import MlflowClient

    Path(root).mkdir()
    client = MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment(f"loop {root}", Path(root, "artifacts").as_uri())
    started_at = time.perf_counter()
    for cell in plan.cells:
        run_id = client.create_run(experiment).info.run_id
        client.log_param(run_id, "prompt", cell.prompt)
        for seed in cell.seeds:
            generator = torch.Generator("cpu").manual_seed(seed)
            image = pipeline(cell.prompt, generator=generator, **call).images[0]
            image.save(Path(root, f"{cell.cell_id}-{seed}.png"))
            client.log_image(run_id, image, key="image", step=seed)
        client.set_terminated(run_id)
    return time.perf_counter() - started_at


def compare(
    model: DiffusersModel, folder: str, num_images: int, num_rounds: int, call: dict[str, Any]
) -> dict[str, Any]:
    """Time both sides in turns and print the best of each."""
    import torch
    from diffusers import DiffusionPipeline

    uri = f"sqlite:///{folder}/mlflow.db"
    given = {"steps": call["num_inference_steps"], **{k: call[k] for k in ("width", "height")}}
    accepted = {n: p for n, p in model.parameters.items() if not p.is_for_source}
    params = model.settle(normalize_params(model.name, accepted, given))
    plan = make_plan(num_images, model, params)
    pipeline = DiffusionPipeline.from_pretrained(
        str(model.files.folder),
        dtype=getattr(torch, model.dtype),
        variant=model.files.variant,
        local_files_only=True,
    ).to(model.device)
    pipeline.set_progress_bar_config(disable=True)
    seconds: dict[str, list[float]] = {"loop": [], "promptlab": []}
    for number in range(num_rounds + 1):  # the first warms both sides up
        loop_s = draw_in_a_loop(pipeline, f"{folder}/loop{number}", plan, call, uri)
        model.load()
        times = draw_with_pipeline(f"{folder}/ours{number}", plan, uri)
        if number:
            seconds["loop"].append(loop_s)
            seconds["promptlab"].append(times.tracked_s)
    rates = {side: num_images / min(values) for side, values in seconds.items()}
    ratio = rates["promptlab"] / rates["loop"]
    size = f"{call['width']}×{call['height']} px, {call['num_inference_steps']} steps"
    print(f"{f'{model.name}, {size}, {num_images} images':<56}{'images/s':>10}")
    print(f"{'pipeline(prompt, generator=…), save, log_image':<56}{rates['loop']:>10.2f}")
    label = f"promptlab, {params['padded_batch']} at a time"
    print(f"{label:<56}{rates['promptlab']:>10.2f}{ratio:>8.2f}x")
    return {
        "benchmark": "diffusers",
        "model": model.name,
        "device": model.device,
        "dtype": model.dtype,
        "batch_size": params["padded_batch"],
        "is_exact": model.is_deterministic,
        "num_images": num_images,
        **call,
        "seconds": seconds,
        "ratio": ratio,
    }


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.diffusers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", help="a folder that diffusers saved, or a Hub repository")
    parser.add_argument("--variant", help="of its files: fp16")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    parser.add_argument("--batch-size", type=int, help="default: 4 on a CPU, else from memory")
    parser.add_argument("--images", type=int, default=96, help="images a round")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions, in turns")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--size", type=int, help="px a side; default: that of the model")
    args = parser.parse_args()
    device = find_device() if args.device == "auto" else args.device
    machine = {
        "machine": platform.machine(),
        "num_cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        **{name: metadata.version(name) for name in ("diffusers", "transformers", "torch")},
    }
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    folder = tempfile.mkdtemp(prefix="promptlab-benchmark-")
    try:
        path = args.model
        if path is None:
            import_diffusers()
            from tests.models.diffusers.tiny_pipelines import build

            path = str(build("sd15", Path(folder)))
        size = args.batch_size or (4 if device == "cpu" else None)
        model = open_pipeline(path, variant=args.variant, device=device, batch_size=size)
        side = args.size or model.image_size[0]
        call = {"num_inference_steps": args.steps, "width": side, "height": side}
        num_images = args.images // NUM_SEEDS * NUM_SEEDS
        figures = compare(model, folder, num_images, args.rounds, call)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps({**figures, "machine": machine}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
