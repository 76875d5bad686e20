"""`promptlab doctor`: does this machine have everything that a sweep needs?

Looks at versions, devices, disk, MLflow's store, extras and each model; prints one line each.
Changes nothing and downloads nothing.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptlab.errors import PromptlabError, WeightsMissingError
from promptlab.extras import EXTRAS, extra_of_model
from promptlab.flow.provenance import versions
from promptlab.machine import cpu_flags, cpu_name, memory_gib, usable_cores
from promptlab.workers.local import local_hosts

MIN_FREE_GB = 1.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One check."""

    name: str
    text: str
    is_good: bool = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--runs-dir", default="runs", help="where run folders go")


def run(args: argparse.Namespace) -> int:
    """Print what was found; the exit code says whether all is well."""
    findings = [
        *look("versions", find_versions),
        *look("devices", find_devices),
        *look("disk", lambda: find_disk(args.runs_dir)),
        *look("MLflow", find_tracking),
        *look("extras", find_extras),
        *look("model", find_models),
    ]
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        print(f"{'ok ' if finding.is_good else '!! '} {finding.name:<{width}} {finding.text}")
    return 0 if all(finding.is_good for finding in findings) else 1


def look(name: str, find: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Yield what a check finds; a check that breaks is a finding too."""
    try:
        yield from find()
    except Exception as error:
        yield Finding(name, f"{type(error).__name__}: {error}", is_good=False)


def find_versions() -> Iterator[Finding]:
    """Yield the versions of what makes the images."""
    for package, version in versions().items():
        yield Finding(package, version)


def find_devices() -> Iterator[Finding]:
    """Yield processor, memory and GPUs, and the fast number formats that they have."""
    import torch

    memory = memory_gib()
    room = "" if memory is None else f", {memory} GiB"
    yield Finding("processor", f"{cpu_name()}, {usable_cores()} cores{room}")
    formats = [name for name in ("amx_bf16", "avx512_bf16") if name in cpu_flags()]
    yield Finding("bfloat16", ", ".join(formats) or "no fast bfloat16 on this processor")
    if not torch.cuda.is_available():
        yield Finding("gpu", "none; the embedded model and mini do without")
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        room = f"{properties.total_memory / 2**30:.0f} GiB"
        yield Finding(f"gpu {index}", f"{properties.name}, {room}")
    if torch.cuda.device_count() > 1:
        names = ", ".join(host.name for host in local_hosts(None))
        yield Finding("workers", f"one a GPU: {names}; workers=this draws on the first alone")
    else:
        yield Finding("workers", "this process; workers=local workers.num=N shares its device")


def find_disk(runs_dir: str) -> Iterator[Finding]:
    """Yield the room where run folders go, and whether it can be written."""
    if "://" in runs_dir:
        yield Finding("runs", f"{runs_dir} (a URL: tried when a sweep begins)")
        return
    folder = Path(runs_dir).resolve()
    while not folder.exists():
        folder = folder.parent
    free_gb = shutil.disk_usage(folder).free / 1e9
    is_writable = os.access(folder, os.W_OK)
    text = f"{Path(runs_dir).resolve()}, {free_gb:,.0f} GB free"
    if not is_writable:
        text += f", but {folder} cannot be written"
    yield Finding("runs", text, is_good=is_writable and free_gb >= MIN_FREE_GB)


def find_tracking() -> Iterator[Finding]:
    """Yield where MLflow's store is and whether it answers, opened as a sweep opens it."""
    from promptlab.redaction import redact_text
    from promptlab.tracking import resolve_tracking_uri
    from promptlab.tracking.connect import open_client
    from promptlab.tracking.database import check_folder, has_content
    from promptlab.tracking.location import database_of

    uri = resolve_tracking_uri()
    shown = redact_text(uri)
    database = database_of(uri)
    try:
        if database is not None and not has_content(database):
            check_folder(database.parent)
            yield Finding("MLflow", f"{shown} (made by the first sweep)")
            return
        open_client(uri, may_change=False)
    except Exception as error:  # of MLflow, SQLAlchemy or the network: what a sweep would meet
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        yield Finding("MLflow", redact_text(f"{uri}: {reason}"), is_good=False)
        return
    yield Finding("MLflow", f"{shown} answers")


def find_extras() -> Iterator[Finding]:
    """Yield each extra: installed, or what it is for and how to install it."""
    for extra in EXTRAS:
        name, missing = f"extra {extra.name}", extra.missing()
        if missing:
            size = f"about {extra.megabytes} MB"
            yield Finding(name, f"not installed ({extra.purpose}): {extra.command}, {size}")
        else:
            yield Finding(name, "installed")


def find_models() -> Iterator[Finding]:
    """Yield for each model its weights, or what is missing before it can draw."""
    from promptlab.configs.vocabulary import find_options, read_option

    for option in find_options("model").values():
        content = read_option(option)
        name = f"model {option.name}"
        try:
            yield Finding(name, _describe_model(content.get("model", content), option.name))
        except Exception as error:
            first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
            # A model that names a missing extra or setting is optional: that is no fault.
            is_asking = isinstance(error, PromptlabError) and not isinstance(
                error, WeightsMissingError
            )
            yield Finding(name, first_line, is_good=option.is_own or is_asking)


def _describe_model(node: Mapping[str, Any], option: str) -> str:
    """Return what a model lacks, or its weights; raises what opening it raises."""
    from promptlab.models.http.model import HttpModel
    from promptlab.models.registry import open_model

    extra = extra_of_model(str(node.get("_target_", "")))
    if extra is not None and (missing := extra.missing()):
        return f"needs {', '.join(missing)}: {extra.command}"
    model = open_model(node)
    if isinstance(model, HttpModel):
        key = model.server.key_variable
        if key and not os.environ.get(key, "").strip():
            return f"needs the environment variable {key}: the key of {model.server.host}"
        return f"asks {model.server.host}"
    if not model.is_downloaded:
        return f"not downloaded: its first sweep does that; promptlab models {option} has its size"
    return f"weights {model.fingerprint}"
