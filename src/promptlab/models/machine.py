"""What a model asks of the machine: which device draws, its memory, where files are kept.

Takes nothing, returns plain values. Knows no model; imports torch only where there may be a GPU.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

log = logging.getLogger(__name__)

# The driver's file, and that of a Windows host's driver under WSL2.
CUDA_FILES = ("/dev/nvidiactl", "/dev/dxg")
_ASK_GPUS = (
    "import json; from promptlab.models.machine import visible_gpus as v; print(json.dumps(v()))"
)


def find_device() -> str:
    """Return "cuda" if torch can use a CUDA device, else "cpu".

    torch is imported only if the system has a driver.
    """
    if not has_driver():
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def visible_gpus() -> list[str]:
    """Return what names each CUDA device that torch sees, as CUDA_VISIBLE_DEVICES has it."""
    if not has_driver():
        return []
    import torch

    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    num_gpus = torch.cuda.device_count()
    names = map(str, range(num_gpus)) if listed is None else listed.split(",")[:num_gpus]
    return [name.strip() for name in names]


def ask_visible_gpus() -> list[str]:
    """Return what visible_gpus returns; torch is asked in another process, not imported here."""
    if not has_driver():
        return []
    done = subprocess.run(
        [sys.executable, "-P", "-c", _ASK_GPUS], capture_output=True, text=True, check=False
    )
    try:
        gpus: list[str] = json.loads(done.stdout)
    except ValueError:
        log.warning("torch could not be asked for GPUs: %s", done.stderr.strip()[-200:])
        return []
    return gpus


def has_driver() -> bool:
    """Tell whether the system may have a CUDA driver; imports nothing."""
    if sys.platform == "linux":
        return any(map(os.path.exists, CUDA_FILES))
    return sys.platform != "darwin"


def device_memory() -> int:
    """Return the memory of the first CUDA device in bytes."""
    import torch

    return int(torch.cuda.get_device_properties(0).total_memory)


def cache_folder() -> Path:
    """Return promptlab's cache, which may be deleted: $PROMPTLAB_CACHE, else the user's cache."""
    if own := os.environ.get("PROMPTLAB_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "promptlab"
