"""How long a multirun waits before its first batch: Hydra, composition, plan, store.

    python -m benchmarks.planning            1,000 and 10,000 cells: about 15 seconds

Each line is one real `promptlab sweep` in a process of its own, timed from its start until its
model is handed the first requests; the model then ends the process. The cells span a config group
(two styles) and a plain key (subjects), one image each. Beside it: what Hydra's own composition
would take, which it does twice a job.

Prints a table, then one line of JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from promptlab.flow.provenance import versions
from promptlab.machine import cpu_name, usable_cores
from promptlab.models.protocol import Parameter
from promptlab.records import Request, Result

NUM_CELLS = (1_000, 10_000)
NUM_STYLES = 2
NUM_REPEATS = 3
BUDGET_S = {1_000: 5.0, 10_000: 15.0}
CONFIG = """\
# @package _global_
model:
  _target_: benchmarks.planning.FirstBatchModel
  path: {path}
"""


class FirstBatchModel:
    """Writes down when it is handed the first requests, and ends the process."""

    name = "first_batch"
    fingerprint = "0" * 16
    image_size = (256, 256)
    dtype = "float32"
    device = "cpu"
    parameters: Mapping[str, Parameter] = {}
    is_deterministic = True

    def __init__(self, path: str) -> None:
        self.path = path

    def load(self) -> None:
        """Do nothing."""

    def unload(self) -> None:
        """Do nothing."""

    def draw(self, requests: Sequence[Request]) -> Iterator[Result]:
        """Write the time and leave."""
        self._leave()
        yield from ()

    def _leave(self) -> NoReturn:
        Path(self.path).write_text(str(time.time()))
        os._exit(0)


@dataclasses.dataclass(frozen=True, slots=True)
class Start:
    """One start of a sweep, until its first batch."""

    wall_s: float
    cpu_s: float  # what is left of a busy machine's influence


def measure_start(num_cells: int, folder: Path) -> Start:
    """Start a sweep and time it until its first batch."""
    stamp = folder / "first_batch"
    config = folder / "conf" / "model" / "first_batch.yaml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(CONFIG.format(path=stamp))
    subjects = ",".join(f"animal {number}" for number in range(num_cells // NUM_STYLES))
    command = [sys.executable, "-m", "promptlab.cli", "sweep", "-m", "model=first_batch"]
    command += [f"subject={subjects}", "style=noto,openmoji", "tracking=null", "reuse=false"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    start, used = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Start(
        wall_s=float(stamp.read_text()) - start,
        cpu_s=spent.ru_utime + spent.ru_stime - used.ru_utime - used.ru_stime,
    )


def measure_stock_composition() -> float:
    """Return the CPU seconds of Hydra's own composition of one job."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.utils import create_config_search_path
    from hydra.core.utils import setup_globals
    from hydra.types import RunMode

    from promptlab.configs.locations import packaged_conf

    setup_globals()
    loader = ConfigLoaderImpl(create_config_search_path(packaged_conf()))
    master = loader.load_configuration("promptlab", [], RunMode.MULTIRUN)
    times = []
    for number in range(10):
        start = time.process_time()
        loader.load_sweep_config(master, [f"subject=animal {number}", "style=noto"])
        times.append(time.process_time() - start)
    return min(times)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cells", type=int, nargs="*", default=list(NUM_CELLS))
    args = parser.parse_args()
    stock_s = measure_stock_composition()
    print(f"{cpu_name()}, {usable_cores()} cores, Hydra {versions()['hydra-core']}")
    print(f"Hydra's own composition of one job: {1000 * stock_s:.1f} ms\n")
    heads = ("cells", "first batch", "CPU time", "budget", "Hydra, twice a job")
    print("{:>8} {:>12} {:>12} {:>8} {:>20}".format(*heads))
    measured = {}
    for num_cells in args.cells:
        starts = []
        for _ in range(NUM_REPEATS):
            with tempfile.TemporaryDirectory() as folder:
                starts.append(measure_start(num_cells, Path(folder)))
        measured[num_cells] = [dataclasses.asdict(start) for start in starts]
        wall_s = min(start.wall_s for start in starts)
        cpu_s = min(start.cpu_s for start in starts)
        budget = f"{BUDGET_S[num_cells]:.0f} s" if num_cells in BUDGET_S else ""
        print(
            f"{num_cells:>8,} {wall_s:>10.2f} s {cpu_s:>10.2f} s {budget:>8} "
            f"{2 * stock_s * num_cells:>18.0f} s"
        )
    result = {
        "benchmark": "planning",
        "seconds": {str(number): times for number, times in measured.items()},
        "stock_composition_s": stock_s,
        "cpu": cpu_name(),
        "num_cores": usable_cores(),
        "system": platform.platform(),
        "versions": versions(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
