"""Which device and which number format `auto` means."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from promptlab.errors import ModelError
from promptlab.models.dalle.config import MIN_DALLE_MEGA, MIN_DALLE_MINI
from promptlab.models.dalle.devices import check_device, choose_dtype, padded_batch
from promptlab.models.dalle.model import DalleModel
from promptlab.models.machine import find_device
from promptlab.records import Numerics
from tests.models.dalle.device import GIB, StandIn


@pytest.mark.parametrize(
    ("files", "answers", "expected"),
    [
        ({"/dev/nvidiactl"}, True, "cuda"),
        ({"/dev/dxg"}, True, "cuda"),  # WSL2: the driver is the Windows host's
        ({"/dev/dxg"}, False, "cpu"),  # WSL2 without a card
        (set(), True, "cpu"),  # torch is not asked
    ],
)
def test_a_device_is_used_if_a_driver_exists_and_answers(
    files: set[str], answers: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    exists: Callable[[str], bool] = os.path.exists
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(
        os.path, "exists", lambda path: path in files or (path[:5] != "/dev/" and exists(path))
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: answers)
    assert find_device() == expected


@pytest.mark.parametrize(
    ("capability", "expected"),
    [((7, 0), "float16"), ((7, 5), "float16"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")],
)
def test_a_card_computes_in_the_format_that_it_has_units_for(
    capability: tuple[int, int], expected: str
) -> None:
    with StandIn(capability=capability):
        assert choose_dtype("cuda") == expected
    assert choose_dtype("cpu") == "float32"


def test_a_format_that_the_card_has_no_units_for_is_refused() -> None:
    with StandIn(capability=(7, 5)):
        check_device(MIN_DALLE_MINI, "float16", "cuda")
        with pytest.raises(ModelError, match="dtype=bfloat16: stand-in has no units for it; use"):
            check_device(MIN_DALLE_MINI, "bfloat16", "cuda")


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (RuntimeError("CUDA error: no kernel image is available"), "install a build of torch"),
        (RuntimeError("CUDA error: all CUDA-capable devices are busy"), "close other programs"),
        (torch.OutOfMemoryError("CUDA out of memory."), "close other programs that use it, or use"),
    ],
)
def test_a_card_that_does_not_compute_is_named(
    error: RuntimeError, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    with StandIn():
        monkeypatch.setattr(torch, "zeros", fail)
        with pytest.raises(ModelError, match="device=cuda: stand-in does not compute: ") as caught:
            check_device(MIN_DALLE_MINI, "float16", "cuda")
    assert advice in str(caught.value)


def test_the_padded_batch_depends_on_the_card_and_not_on_free_memory() -> None:
    assert padded_batch(MIN_DALLE_MEGA, "float32", "cpu") is None
    with StandIn(total_bytes=16 * GIB) as device:
        before = padded_batch(MIN_DALLE_MEGA, "float16", "cuda")
        device.reserved = 15 * GIB  # another program's
        assert padded_batch(MIN_DALLE_MEGA, "float16", "cuda") == before == 64


def test_a_model_names_the_padded_batch_that_its_bits_depend_on() -> None:
    def locate() -> Path:
        raise AssertionError("a plan needs no weights")

    on_cpu = DalleModel(MIN_DALLE_MEGA, locate, device="cpu")
    assert on_cpu.describe() == Numerics("cpu", "float32", None)
    on_cuda = DalleModel(MIN_DALLE_MEGA, locate, device="cuda")
    with StandIn(total_bytes=16 * GIB, capability=(7, 5)):
        assert on_cuda.describe() == Numerics("cuda", "float16", 64)
