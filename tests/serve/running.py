"""A server in a process of its own, in a folder with a model that draws at once."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptlab.configs.locations import packaged_conf
from promptlab.serve.queue import QUEUE_PATH, Queue
from tests.conftest import PAINT, ROOT

STARTING_S = 60


@dataclass
class Running:
    """A server that runs."""

    folder: Path
    address: str  # ends with /
    process: subprocess.Popen[bytes]
    log: Path  # what it printed

    def ask(
        self, path: str, document: Any = None, method: str | None = None, **headers: str
    ) -> tuple[int, Any]:
        """Return status and JSON (or text) of an answer."""
        sent = {"authorization": "Bearer x", **headers}
        body = None
        if document is not None:
            body = json.dumps(document).encode()
            sent["content-type"] = "application/json"
        request = urllib.request.Request(self.address + path, body, sent, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                status, content = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                status, content = error.code, error.read()
        try:
            return status, json.loads(content)
        except ValueError:
            return status, content.decode()

    @property
    def queue(self) -> Queue:
        """Open its queue."""
        return Queue(self.folder / "runs" / QUEUE_PATH)


def prepare_folder(folder: Path) -> None:
    """Make a working directory whose own model is `paint` and which tracks nothing."""
    (folder / "conf/model").mkdir(parents=True)
    (folder / "conf/model/paint.yaml").write_text(PAINT.format(name="paint"), encoding="utf-8")
    own = Path(packaged_conf(), "promptlab.yaml").read_text(encoding="utf-8")
    own = own.replace("  - model: tiny\n", "  - model: paint\n")
    own = own.replace("  enabled: true\n", "  enabled: false\n")
    (folder / "conf/promptlab.yaml").write_text(own, encoding="utf-8")


@contextmanager
def running(folder: Path, *arguments: str, **environment: str) -> Iterator[Running]:
    """Run a server in a prepared folder, on any free port, with one worker."""
    command = [sys.executable, "-m", "promptlab.cli", "serve", "--port", "0", "--workers", "1"]
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, *arguments],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        address = wait_for(log, r" at (http\S+)", process)
        yield Running(folder, address, process, log)
    finally:
        end(process)


def wait_for(log: Path, pattern: str, process: subprocess.Popen[bytes]) -> str:
    """Return what a pattern's group finds in a server's output, once it is there."""
    give_up_at = time.monotonic() + STARTING_S
    while (found := re.search(pattern, log.read_text(encoding="utf-8"))) is None:
        assert process.poll() is None, log.read_text(encoding="utf-8")
        assert time.monotonic() < give_up_at, log.read_text(encoding="utf-8")
        time.sleep(0.05)
    return found[1]


def end(process: subprocess.Popen[bytes]) -> None:
    """End a server as Ctrl-C does."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise
