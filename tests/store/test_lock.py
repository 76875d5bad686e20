"""One process writes a run folder; a dead one never blocks."""

import json
import signal
import subprocess
import sys

import pytest

from promptlab.errors import RunLockedError
from promptlab.paths import RunPaths
from promptlab.store import open_store
from promptlab.store.folder import RunFolder
from promptlab.store.lock import hold_lock
from promptlab.store.pipeline import StoredImage
from promptlab.store.storage import LocalStorage
from tests.store.painting import make_plan
from tests.store.sweeping import draw_plan, parts_of

HOLDER = """
import sys, time
from promptlab.store.lock import hold_lock
with hold_lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    path = str(tmp_path / ".lock")
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield path, process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_process_is_told_who_holds_the_folder(holder):
    path, process = holder
    with pytest.raises(RunLockedError, match=rf"process {process.pid} on .*since"), hold_lock(path):
        pass


def test_the_lock_of_a_killed_process_does_not_block(holder):
    path, process = holder
    process.send_signal(signal.SIGKILL)
    process.wait()
    with hold_lock(path):
        pass


def test_a_lock_file_from_before_a_reboot_does_not_block(tmp_path):
    path = tmp_path / ".lock"
    path.write_text(json.dumps({"pid": 1, "host": "here", "since": "long ago"}))
    with hold_lock(str(path)):
        pass


def test_two_writers_of_one_run_folder_do_not_get_on(paths):
    with (
        open_store(paths, make_plan()),
        pytest.raises(RunLockedError),
        open_store(paths, make_plan()),
    ):
        pass
    with open_store(paths, make_plan()):
        pass


def test_a_writer_that_loses_its_lock_while_it_writes_pngs_writes_no_part(paths):
    images: list[StoredImage] = []
    draw_plan(RunPaths(f"{paths.root}-drawn"), make_plan(), listeners=[images.extend])
    looks = iter([True, False])  # the lock is another's at the second look

    def check_lock() -> None:
        if not next(looks):
            raise RunLockedError("another process writes this run")

    folder = RunFolder(LocalStorage(), paths, check_lock)
    with pytest.raises(RunLockedError):
        folder.write(images, embed_images=True)
    assert parts_of(paths) == []
