"""One process writes a run folder; a dead one never blocks."""

import json
import os
import subprocess
import sys
import threading

import pytest

from promptlab.errors import RunLockedError
from promptlab.paths import RunPaths
from promptlab.store import open_store
from promptlab.store.folder import RunFolder
from promptlab.store.lock import hold_lock, wait_for_lock
from promptlab.store.pipeline import StoredImage
from promptlab.store.storage import LocalStorage
from tests.conftest import ROOT
from tests.store.painting import make_plan
from tests.store.sweeping import draw_plan, parts_of
from tests.windows import pretend

HOLDER = """
import sys, time
if sys.argv[2] == "windows":
    import pytest
    from tests.windows import pretend
    pretend(pytest.MonkeyPatch())
from promptlab.store.lock import hold_lock, wait_for_lock
with hold_lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(params=["here", "windows"])
def system(request, monkeypatch):
    """The rules of this system, or those of Windows."""
    if request.param == "windows":
        if sys.platform != "linux":
            pytest.skip("borrows Linux' locks")
        pretend(monkeypatch)
    return request.param


@pytest.fixture
def holder(tmp_path, system):
    path = str(tmp_path / ".lock")
    command = [sys.executable, "-c", HOLDER, path, system]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield path, process
    end(process)
    process.stdout.close()


kill = os.kill  # of this system, whatever rules a test plays by


def end(process):
    if process.poll() is None:
        kill(process.pid, 9)
        process.wait()


def test_a_second_process_is_told_who_holds_the_folder(holder):
    path, process = holder
    with pytest.raises(RunLockedError, match=rf"process {process.pid} on .*since"), hold_lock(path):
        pass


def test_the_lock_of_a_killed_process_does_not_block(holder):
    path, process = holder
    end(process)
    with hold_lock(path):
        pass


def test_a_lock_file_from_before_a_reboot_does_not_block(tmp_path, system):
    path = tmp_path / ".lock"
    path.write_text(json.dumps({"pid": 1, "host": "here", "since": "long ago"}))
    with hold_lock(str(path)):
        pass


def test_two_writers_of_one_run_folder_do_not_get_on(paths, system):
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


def test_a_lock_is_waited_for_as_long_as_patience_lasts(holder):
    path, process = holder
    with pytest.raises(RunLockedError), wait_for_lock(path, 0.0):
        pass
    soon = threading.Timer(0.3, end, [process])
    soon.start()
    with wait_for_lock(path, 30.0):
        assert process.poll() is not None
    soon.join()


def test_the_file_of_a_lock_stays_when_the_lock_goes(tmp_path):
    """A process that has opened it may lock it next, and no other must lock another file."""
    path = tmp_path / ".lock"
    with hold_lock(str(path)):
        inode = path.stat().st_ino
    assert path.stat().st_ino == inode
