"""Kernels, bytes and FLOPs of a decoding step and of the detokenizer, counted without a device.

    python -m benchmarks.engine_kernels
    python -m benchmarks.engine_kernels --size mini --images 64 --in-use 4 --dtype bfloat16

Runs the code of the CUDA path on the meta device, at true sizes, and counts every operator that
would start a kernel: what it reads, writes and multiplies. A step is that at the middle of an
image. Prints a table, then one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from promptlab.models.dalle.config import CONFIG_FROM_SIZE, DalleConfig
from promptlab.models.dalle.cuda import sizes
from promptlab.models.dalle.cuda.graphs import GraphDecoder, Shape
from promptlab.models.dalle.detokenizer import load_detokenizer
from promptlab.models.dalle.network import load_decoder
from promptlab.models.dalle.weights import expected_shapes

# These read of their first argument as much as they return, and write as much as they are given.
GATHERS = ("aten.index.", "aten.index_select", "aten.gather", "aten.embedding.")
SCATTERS = ("aten.index_copy_", "aten.index_fill_")
FILLS = ("aten.fill_", "aten.zero_", "aten.zeros", "aten.copy_", "aten.full", "aten.empty")


@dataclass
class Work:
    """What some operators cost."""

    kernels: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    flops: int = 0
    by_operator: Counter[str] = field(default_factory=Counter)
    costs: list[tuple[str, int, int]] = field(default_factory=list)  # (operator, bytes, FLOPs)

    @property
    def num_bytes(self) -> int:
        """Bytes read and written."""
        return self.read_bytes + self.written_bytes

    def seconds(self, bytes_per_s: float, flops_per_s: float, launch_s: float) -> float:
        """Return the time of a device with these rates: kernel by kernel, the slower of two."""
        return sum(
            launch_s + max(num_bytes / bytes_per_s, flops / flops_per_s)
            for _, num_bytes, flops in self.costs
        )


class KernelCounter(TorchDispatchMode):
    """Counts the kernels of all operators that run inside of it."""

    def __init__(self) -> None:
        super().__init__()
        self.work = Work()

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run an operator and count it, unless it returns a view."""
        kwargs, name = kwargs or {}, str(operator)
        if name.startswith("aten.scaled_dot_product_attention"):
            result = torch.empty_like(args[0])
        else:
            result = operator(*args, **kwargs)
        given = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        outputs = [x for x in pytree.tree_leaves(result) if isinstance(x, Tensor)]
        held = {x.untyped_storage()._cdata for x in given}
        into = kwargs.get("out")  # is written alone
        inputs = [x for x in given if x is not into]
        fresh = [x for x in outputs if x.untyped_storage()._cdata not in held]
        writes = any(a.alias_info and a.alias_info.is_write for a in operator._schema.arguments)
        if (fresh or writes) and not name.startswith("aten.empty"):
            self._count(name, args, inputs, fresh or outputs[:1])
        return result

    def _count(self, name: str, args: Any, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        written = sum(map(touched_bytes, outputs))
        if name.startswith(GATHERS):
            read = written + sum(map(touched_bytes, inputs[1:]))
        elif name.startswith(SCATTERS):
            read = written = touched_bytes(inputs[-1])
        elif name.startswith(FILLS):
            read = sum(map(touched_bytes, inputs[1:]))
        else:
            read = sum(map(touched_bytes, inputs))
        work, flops = self.work, count_flops(name, args, outputs)
        work.kernels += 1
        work.read_bytes += read
        work.written_bytes += written
        work.flops += flops
        work.by_operator[name.removeprefix("aten.").split(".")[0]] += 1
        work.costs.append((name, read + written, flops))


def touched_bytes(tensor: Tensor) -> int:
    """Return the bytes of a tensor, each repeated number once."""
    pairs = zip(tensor.shape, tensor.stride(), strict=True)
    return math.prod(size for size, stride in pairs if stride) * tensor.element_size()


def count_flops(name: str, args: Any, outputs: list[Tensor]) -> int:
    """Return the operations of products, attention and convolutions; of others 0."""
    if name.startswith("aten.linear"):
        return 2 * outputs[0].numel() * args[1].shape[1]
    if name.startswith("aten.scaled_dot_product_attention"):
        return 4 * args[1].numel()
    if name.startswith(("aten.bmm", "aten.matmul", "aten.mm")):
        return 2 * outputs[0].numel() * args[0].shape[-1]
    if name.startswith(("aten.conv2d", "aten.convolution")):
        return 2 * outputs[0].numel() * math.prod(args[1].shape[1:])
    return 0


@contextmanager
def counting() -> Iterator[Work]:
    """Count the kernels of a block of code."""
    with torch.inference_mode(), KernelCounter() as counter:
        yield counter.work


def empty_tensors(config: DalleConfig, dtype: torch.dtype, part: str) -> dict[str, Tensor]:
    """Return a part's weights on the meta device."""
    return {
        name: torch.empty(shape, dtype=dtype, device="meta")
        for name, shape in expected_shapes(config).items()
        if name.startswith(part)
    }


def count_step(
    config: DalleConfig, dtype: torch.dtype, padded: int, in_use: int, text_length: int
) -> Work:
    """Return the work of the step at the middle of an image."""
    with torch.inference_mode():
        decoder = load_decoder(empty_tensors(config, dtype, "decoder."), config, dtype, "meta")
        graphs = GraphDecoder(decoder, padded, in_use, config.text_length)
    with counting() as work:
        graphs.decode_step(Shape(in_use, text_length, config.num_image_tokens // 2, 256))
    return work


def count_detokenizer(
    config: DalleConfig, dtype: torch.dtype, num_images: int = sizes.MOST_DETOKENIZED
) -> Work:
    """Return the work of one batch of the detokenizer."""
    with torch.inference_mode():
        tensors = empty_tensors(config, dtype, "detokenizer.")
        network = load_detokenizer(tensors, config, dtype, "meta")
    grid = config.image_grid
    shape = (num_images, grid, grid)
    tokens = torch.zeros(shape, dtype=torch.int64, device="meta")
    with counting() as work:
        network(tokens)
    return work


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=sorted(CONFIG_FROM_SIZE), default="mega")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--images", type=int, default=128, help="padded images of a block")
    parser.add_argument("--in-use", type=int, help="images in use (all of them)")
    parser.add_argument("--text-length", type=int, default=16, help="padded tokens of the prompts")
    options = parser.parse_args()
    config, dtype = CONFIG_FROM_SIZE[options.size], getattr(torch, options.dtype)
    in_use = options.in_use or options.images
    together = sizes.detokenized_images(options.images)
    counts: dict[str, Callable[[], Work]] = {
        "a step": lambda: count_step(config, dtype, options.images, in_use, options.text_length),
        f"detokenizing {together}": lambda: count_detokenizer(config, dtype, together),
    }
    print(f"{options.size}, {options.dtype}, {in_use} of {options.images} images, meta device")
    print(f"{'':18} {'kernels':>8} {'GB read':>8} {'GB written':>11} {'GFLOP':>9}")
    report: dict[str, object] = {}
    for name, function in counts.items():
        work = function()
        print(
            f"{name:18} {work.kernels:8} {work.read_bytes / 1e9:8.2f} "
            f"{work.written_bytes / 1e9:11.2f} {work.flops / 1e9:9.0f}"
        )
        report[name] = {
            "kernels": work.kernels,
            "read_bytes": work.read_bytes,
            "written_bytes": work.written_bytes,
            "flops": work.flops,
            "kernels_by_operator": dict(work.by_operator.most_common()),
        }
    print(json.dumps({"benchmark": "engine_kernels", **vars(options), "work": report}))


if __name__ == "__main__":
    main()
