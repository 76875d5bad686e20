"""What a config says of workers: the group `workers`, checked.

Takes plain values, returns options. Starts nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from promptlab.errors import ConfigError

KINDS = ("auto", "this", "local", "ray", "slurm")


@dataclass(frozen=True)
class WorkerOptions:
    """Who draws, and when a worker counts as lost."""

    kind: str = "auto"  # auto: local with several GPUs or a num, else this
    num: int | None = None  # workers; None: one a GPU, or what the cluster has room for
    max_restarts: int = 3  # of one worker in a row, without an image in between
    silent_s: float = 60.0  # without a heartbeat a worker counts as lost
    stuck_s: float = 3600.0  # so does one that has had requests this long without an image
    address: str = "auto"  # Ray: of a cluster; auto: a running one, else one is started here
    num_gpus: float | None = None  # Ray: of each worker; None: 1 if the cluster has GPUs
    num_cpus: float = 1.0  # Ray: of each worker
    nodes: int = 1  # Slurm: of the job
    gpus_per_node: int | None = None  # Slurm: None: none
    cpus_per_node: int | None = None  # Slurm: None: the cluster's default
    mem_gb: float | None = None  # Slurm: of each node; None: the cluster's default
    timeout_min: int = 1440  # Slurm: the same command again resumes what it did not draw
    partition: str | None = None  # Slurm
    account: str | None = None  # Slurm
    cluster: str = "slurm"  # slurm, or local: a process of this machine stands for the job

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"workers.kind={self.kind!r}: expected one of {', '.join(KINDS)}.")
        if self.num is not None and self.num < 1:
            raise ConfigError(f"workers.num={self.num}: expected a number of workers, or null.")
        if self.kind == "this" and self.num not in (None, 1):
            raise ConfigError(
                f"workers=this workers.num={self.num}: this process is one worker. Expected "
                f"workers=local workers.num={self.num}."
            )
        if self.max_restarts < 0 or not self.silent_s > 0 or not self.stuck_s > 0:
            raise ConfigError(
                f"workers.max_restarts={self.max_restarts}, workers.silent_s={self.silent_s}, "
                f"workers.stuck_s={self.stuck_s}: expected a count and two times in seconds."
            )
        if (self.num_gpus is not None and self.num_gpus < 0) or self.num_cpus < 0:
            raise ConfigError(
                f"workers.num_gpus={self.num_gpus}, workers.num_cpus={self.num_cpus}: expected "
                "what each worker takes of the cluster, from 0."
            )
        if self.nodes < 1 or self.timeout_min < 1:
            raise ConfigError(
                f"workers.nodes={self.nodes}, workers.timeout_min={self.timeout_min}: expected "
                "whole numbers from 1."
            )
        if self.cluster not in ("slurm", "local"):
            raise ConfigError(f"workers.cluster={self.cluster!r}: expected slurm or local.")
