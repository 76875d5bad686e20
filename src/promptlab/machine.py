"""The machine: processor, cores, memory, and what the bits of an image depend on.

Asks the operating system, and torch if it is loaded already. Imports and changes nothing.
"""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

# Instruction sets among which the kernels of torch and its libraries choose.
_INSTRUCTION_SETS = (
    *("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16"),
    *("asimd", "sve", "sve2", "bf16"),
)


def usable_cores() -> int:
    """Return the number of CPU cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def own_session() -> dict[str, Any]:
    """Return what Popen takes so that Ctrl-C in the terminal does not reach the process."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def memory_gib() -> float | None:
    """Return the machine's memory in GiB, None where the system does not tell."""
    try:
        num_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    return round(num_bytes / 2**30, 1)


def cpu_name() -> str:
    """Return the processor's name, as far as the system tells."""
    return _cpu_field("model name") or platform.processor() or "unknown"


def cpu_vendor() -> str:
    """Return the maker of the processor: "GenuineIntel", "AuthenticAMD", …"""
    return _cpu_field("vendor_id", "CPU implementer") or platform.processor() or "unknown"


def cpu_flags() -> frozenset[str]:
    """Return the processor's feature flags, as Linux lists them."""
    return frozenset(_cpu_field("flags", "Features").split())


@functools.cache
def _cpu_field(*names: str) -> str:
    """Return the first processor's entry of one of these names in /proc/cpuinfo, "" if none."""
    for name, value in _cpu_fields():
        if name in names:
            return value
    return ""


def _cpu_fields() -> Iterator[tuple[str, str]]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                name, _, value = line.partition(":")
                yield name.strip(), value.strip()
    except OSError:
        return


def gpu_name() -> str | None:
    """Return the GPU's name if torch is loaded and has one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return str(torch.cuda.get_device_name())


def describe_numerics(device: str) -> str:
    """Return in one line what the bits of an image depend on besides its request.

    Images drawn under the same line are equal bit for bit; under another one they may differ. ""
    for a device of which this machine knows nothing, such as a service.
    """
    return _describe_numerics(device, sys.modules.get("torch"))


@functools.cache
def _describe_numerics(device: str, torch: Any) -> str:
    if device == "cpu":
        flags = cpu_flags()
        facts = [cpu_vendor(), " ".join(name for name in _INSTRUCTION_SETS if name in flags)]
        if torch is not None:
            capability = torch.backends.cpu.get_cpu_capability()  # ATEN_CPU_CAPABILITY may lower it
            facts.append(f"torch {torch.__version__} with {capability}")
        return ", ".join(filter(None, facts))
    if torch is None or device not in ("cuda", "mps"):
        return ""
    return f"{gpu_name() or cpu_name()}, torch {torch.__version__}"
