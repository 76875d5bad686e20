"""A sweep as one job of a Slurm cluster: submitted here, drawn there, its log shown here.

Takes a function that draws and what it needs; returns what it returned. On one node it draws with
local workers, on several with a Ray cluster inside the job. Knows no plan and no run folder.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from promptlab.errors import ConfigError, ModelError
from promptlab.workers.options import WorkerOptions
from promptlab.workers.worker import find_modules

log = logging.getLogger(__name__)

Draw = Callable[..., Any]  # takes the values of `workers` inside the job, then the arguments
LOOK_S = 1.0  # between two looks at the job and its log
PATIENCE_S = 300.0  # for the nodes of a job to find each other


def run_as_job(draw: Draw, arguments: tuple[Any, ...], options: WorkerOptions, folder: str) -> Any:
    """Have a job call `draw` and return its result; ending this process does not end the job.

    `folder` holds what submitit writes, the log among it; all nodes must see it.
    """
    try:
        import submitit
    except ImportError as error:
        raise ModelError("workers=slurm needs submitit: pip install 'promptlab[slurm]'.") from error
    is_local = options.cluster == "local"
    if not is_local and submitit.AutoExecutor.which() != "slurm":
        raise ConfigError(
            "workers=slurm: this machine has no sbatch. Expected a machine of a Slurm cluster, or "
            "workers=local or workers=ray here."
        )
    executor = submitit.AutoExecutor(folder=folder, cluster=options.cluster)
    executor.update_parameters(**_parameters(options, is_local))
    job = executor.submit(_draw_in_job, list(sys.path), draw, arguments, options, folder)
    main = job if job.num_tasks == 1 else job.task(0)
    log.info("Job %s, log %s", job.job_id, main.paths.stdout)
    try:
        _show_log(main, main.paths.stdout)
    except KeyboardInterrupt:
        log.info("The job goes on without this console. To end it: scancel %s", job.job_id)
        raise
    try:
        return main.result()
    except (submitit.core.utils.FailedJobError, submitit.core.utils.UncompletedJobError) as error:
        last = str(error).strip().splitlines()[-1]
        raise ModelError(
            f"Job {job.job_id} ended early: {last} Log: {main.paths.stdout}"
        ) from error


def _parameters(options: WorkerOptions, is_local: bool) -> dict[str, Any]:
    """Return the job's size as submitit has it: one task a node, so that each can join Ray."""
    wanted = {
        "name": "promptlab",
        "timeout_min": options.timeout_min,
        "nodes": None if is_local else options.nodes,
        "tasks_per_node": options.nodes if is_local else 1,
        "gpus_per_node": options.gpus_per_node,
        "cpus_per_task": options.cpus_per_node,
        "mem_gb": options.mem_gb,
        "slurm_partition": options.partition,
        "slurm_account": options.account,
    }
    return {name: value for name, value in wanted.items() if value is not None}


def _show_log(job: Any, path: Path) -> None:
    """Print the job's log as it grows, until the job has ended."""
    with contextlib.ExitStack() as stack:
        file: IO[str] | None = None
        is_over = False
        while not is_over:
            is_over = job.done()
            if file is None and path.exists():
                file = stack.enter_context(path.open(encoding="utf-8", errors="replace"))
            for line in file or ():
                print(line, end="", flush=True)
            if not is_over:
                time.sleep(LOOK_S)


def _draw_in_job(
    sys_path: Sequence[str],
    draw: Draw,
    arguments: tuple[Any, ...],
    options: WorkerOptions,
    folder: str,
) -> Any:
    """Draw as the first task of a job; every other one lends its node to Ray until that is done."""
    from submitit import JobEnvironment

    find_modules(sys_path)
    job = JobEnvironment()
    own = {"num": options.num, "max_restarts": options.max_restarts}
    if job.num_tasks == 1:
        return draw({"kind": "auto", **own}, *arguments)
    head, done = (Path(folder, f"{job.job_id}.{name}") for name in ("head", "done"))
    if job.global_rank > 0:
        with _node_of_ray(f"--address={_wait_for(head)}"):
            while not done.exists():
                time.sleep(LOOK_S)
        return None
    try:
        port = _free_port()
        address = f"{socket.gethostbyname(socket.gethostname())}:{port}"
        with _node_of_ray("--head", f"--port={port}", "--include-dashboard=false"):
            head.with_suffix(".new").write_text(address, encoding="utf-8")
            os.replace(head.with_suffix(".new"), head)
            _wait_for_nodes(address, job.num_tasks)
            return draw({"kind": "ray", "address": address, **own}, *arguments)
    finally:
        done.touch()


@contextlib.contextmanager
def _node_of_ray(*arguments: str) -> Iterator[None]:
    """Run a node of Ray on this machine."""
    command = [sys.executable, "-P", "-m", "ray.scripts.scripts", "start", *arguments]
    environment: Mapping[str, str] = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    process = subprocess.Popen(
        [*command, "--block", "--log-color=false"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()  # which ends the node's processes, too
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(LOOK_S * 20)
        process.kill()
        process.wait()


def _wait_for(file: Path) -> str:
    """Return the text of a file as soon as another node has written it."""
    end_at = time.monotonic() + PATIENCE_S
    while not file.exists():
        if time.monotonic() > end_at:
            raise ModelError(f"The first node of the job wrote no {file} in {PATIENCE_S:g} s.")
        time.sleep(LOOK_S)
    return file.read_text(encoding="utf-8")


def _wait_for_nodes(address: str, num_nodes: int) -> None:
    """Return when all nodes have joined; after a while those that have are enough."""
    import ray

    end_at = time.monotonic() + PATIENCE_S
    while not ray.is_initialized():
        try:
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
        except ConnectionError:
            if time.monotonic() > end_at:
                raise
            time.sleep(LOOK_S)
    while sum(node["Alive"] for node in ray.nodes()) < num_nodes:
        if time.monotonic() > end_at:
            log.warning("Not all %d nodes have joined; drawing with those that have.", num_nodes)
            return
        time.sleep(LOOK_S)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("", 0))
        return int(free.getsockname()[1])
