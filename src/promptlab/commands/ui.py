"""`promptlab ui`: MLflow's own UI on the store of a run, opened where its runs are side by side.

Takes a run folder or a URI; starts MLflow's server, waits for it and ends it with all of its
processes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from types import FrameType

from promptlab.errors import StoreError, TrackingError
from promptlab.machine import own_session

ENDING_S = 5.0  # for MLflow's processes to end by themselves
STARTING_S = 60.0  # for MLflow's server to answer, before a browser is opened anyway


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    from promptlab.tracking.view import DEFAULT_HOST, DEFAULT_PORT

    parser.add_argument(
        "folder",
        nargs="?",
        metavar="RUN",
        help="show this run's store and experiment (default: the store of a sweep in this folder)",
    )
    parser.add_argument("--runs-dir", default="runs", help="where the newest run is looked for")
    parser.add_argument("--uri", help="MLflow's tracking URI, in place of a run's own")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT)
    parser.add_argument("--host", default=DEFAULT_HOST)
    parser.add_argument(
        "--no-browser", action="store_true", help="print the address, open no browser"
    )


def run(args: argparse.Namespace) -> int:
    """Start the UI and return its exit code; if a server runs already, print its address."""
    from promptlab.redaction import redact_text
    from promptlab.tracking.database import check, has_content, relocate_artifacts
    from promptlab.tracking.location import database_of
    from promptlab.tracking.view import chart_address

    uri, experiment_id = _find_store(args)
    if uri.startswith(("http://", "https://")):
        print(f"MLflow runs at {chart_address(redact_text(uri), experiment_id)}")
        return 0
    database = database_of(uri)
    if database is not None:
        if not has_content(database):
            raise TrackingError(
                f"There is no MLflow database {database}. Expected one that a sweep made: run "
                "`promptlab ui` in the sweep's folder, or name a run (promptlab ui RUN)."
            )
        check(database)
        relocate_artifacts(database)
    _check_port(args.host, args.port)
    address = chart_address(f"http://{args.host}:{args.port}", experiment_id)
    print(f"MLflow's UI of {redact_text(uri)} (Ctrl-C ends it):\n  {address}", flush=True)
    with _server(uri, args.host, args.port) as process:
        if not args.no_browser:
            _open_browser(process, args.host, args.port, address)
        return process.wait()


def _find_store(args: argparse.Namespace) -> tuple[str, str | None]:
    """Return the tracking URI to show, and the experiment of the run that is shown."""
    from promptlab.paths import RunPaths
    from promptlab.store import newest_run, read_run
    from promptlab.tracking.database import has_content
    from promptlab.tracking.location import (
        database_of,
        read_record,
        resolve_tracking_uri,
        uri_of_run,
    )

    folder = args.folder
    if folder is None:
        with contextlib.suppress(StoreError):
            folder = newest_run(args.runs_dir)
    own = None if folder is None else uri_of_run(RunPaths(folder), read_run(folder).record)
    uri = resolve_tracking_uri(args.uri)
    if args.uri is None and own is not None:
        database = database_of(uri)
        if args.folder is not None or (database is not None and not has_content(database)):
            uri = own
    stored = None if folder is None else read_record(RunPaths(folder))
    return uri, stored.experiment_id if stored is not None and own == uri else None


def _check_port(host: str, port: int) -> None:
    if not 0 < port < 65536:
        raise TrackingError(f"--port {port}: expected a number from 1 to 65535.")
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        raise TrackingError(
            f"{host}:{port} cannot be used ({error.strerror}): does another MLflow UI run there? "
            f"Choose another port: promptlab ui --port {port + 1 if port < 65535 else 5001}"
        ) from error


@contextlib.contextmanager
def _server(uri: str, host: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run MLflow's server; on leaving, and on SIGTERM, it ends with all of its processes."""
    from promptlab.tracking.connect import set_environment
    from promptlab.tracking.location import default_artifact_root, uri_for_mlflow

    set_environment()
    environment = os.environ | {
        "MLFLOW_BACKEND_STORE_URI": uri_for_mlflow(uri),  # not an argument: it may hold a password
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # five processes that sweeps do not need
        "PYTHONSAFEPATH": "1",  # modules of the working directory are the user's
    }
    artifacts = default_artifact_root(uri)
    if artifacts is not None:
        environment["MLFLOW_DEFAULT_ARTIFACT_ROOT"] = artifacts
    # One worker serves one person, and starts in half the time of MLflow's four.
    where = ["--host", host, "--port", str(port), "--workers", "1"]
    command = [sys.executable, "-m", "mlflow", "ui", *where]
    process = None

    def end(_signal: int, _frame: FrameType | None) -> None:
        raise SystemExit(0)

    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
        if hasattr(signal, name):  # Windows has no SIGHUP, and SIGBREAK alone
            signal.signal(getattr(signal, name), end)
    try:
        process = subprocess.Popen(command, env=environment, **own_session())
        yield process
    except OSError as error:
        raise TrackingError(f"MLflow's UI cannot be started: {error}.") from error
    finally:
        if process is not None:
            _end_group(process)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and those that it started, which are in its group."""
    if sys.platform == "win32":
        command = ["taskkill", "/F", "/T", "/PID", str(process.pid)]
        subprocess.run(command, capture_output=True, check=False)
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        give_up_at = time.monotonic() + ENDING_S
        while _group_lives(process) and time.monotonic() < give_up_at:
            time.sleep(0.05)


def _group_lives(process: subprocess.Popen[bytes]) -> bool:
    process.poll()  # takes its exit code, so that it is no zombie of the group
    try:
        os.killpg(process.pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _open_browser(process: subprocess.Popen[bytes], host: str, port: int, address: str) -> None:
    """Open a browser once the server answers, where there is a screen for one."""
    has_screen = sys.platform in ("darwin", "win32") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
    if not has_screen or not sys.stdout.isatty():
        return
    import webbrowser

    give_up_at = time.monotonic() + STARTING_S
    while process.poll() is None and time.monotonic() < give_up_at:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://{host}:{port}/health", timeout=2),
        ):
            break
        time.sleep(0.2)
    if process.poll() is None:
        webbrowser.open(address)
