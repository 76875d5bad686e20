"""Killed at any moment and started again, a sweep ends as if nothing had happened."""

import os

import pytest

from promptlab.paths import RunPaths
from tests.store.killing import draw_and_kill, kill_plan, open_nursery
from tests.store.sweeping import check_whole, essence

pytestmark = pytest.mark.timeout(600)  # half a minute on a machine that is not busy otherwise

NUM_SWEEPS, KILLS_A_SWEEP = 6, 10


@pytest.fixture(scope="module")
def killed_sweeps(tmp_path_factory):
    """Return run folders, each killed often and then finished, and the rows at each kill.

    Beside each lies the same sweep drawn in one go.
    """
    folder = tmp_path_factory.mktemp("killed")
    roots, rows_at_kills = {}, []
    with open_nursery() as draw:
        for number in range(NUM_SWEEPS):
            roots[number] = str(folder / f"{number}" / "runs" / "one")
            assert draw(whole(roots[number]), number) == 0
            rows_at_kills += draw_and_kill(draw, roots[number], number, KILLS_A_SWEEP)
    return roots, rows_at_kills


def whole(root):
    """Return the run folder of the same sweep, drawn in one go."""
    return root.replace("/runs/", "/undisturbed/")


def test_sweeps_killed_fifty_times_equal_uninterrupted_ones(killed_sweeps):
    roots, rows_at_kills = killed_sweeps
    assert len(rows_at_kills) >= 50
    assert len(set(rows_at_kills)) >= 8  # they fell all over the sweeps, not before the first row
    for number, root in roots.items():
        plan = kill_plan(number)
        expected = essence(check_whole(whole(root), plan))
        assert essence(check_whole(root, plan)) == expected


def test_killed_sweeps_leave_no_half_file_and_no_second_part_with_the_same_rows(killed_sweeps):
    from promptlab.store.parts import list_parts
    from promptlab.store.storage import LocalStorage

    roots, _ = killed_sweeps
    for number, root in roots.items():
        paths = RunPaths(root)
        found = list_parts(LocalStorage(), paths.images_parquet)
        assert not found.replaced
        assert not found.unreadable
        assert sum(part.num_rows for part in found.parts) == kill_plan(number).num_images
        names = os.listdir(paths.images) + os.listdir(paths.images_parquet)
        assert not [name for name in names if name.endswith((".tmp", ".corrupt"))]


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")  # MLflow's own
def test_mlflow_equals_the_parquet_of_a_killed_sweep_after_sync(killed_sweeps, tmp_path):
    from promptlab.tracking import TrackingOptions, sync
    from tests.tracking.holding import check_equal_to_parquet, make_database

    roots, _ = killed_sweeps
    uri = make_database(tmp_path)
    for root in list(roots.values())[:2]:
        report = sync(root, TrackingOptions(uri=uri))
        assert report.num_images == report.num_written
        check_equal_to_parquet(uri, root, tmp_path)
        assert sync(root, TrackingOptions(uri=uri)).num_written == 0
