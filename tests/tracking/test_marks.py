"""A run folder says for what MLflow is up to date, and for nothing else."""

from __future__ import annotations

from promptlab.tracking.marks import is_tracked, mark_as_tracked
from promptlab.tracking.options import TrackingOptions
from tests.store.painting import make_plan
from tests.store.sweeping import draw_and_stop, draw_plan


def test_a_run_is_tracked_for_the_store_the_layout_and_the_rows_of_its_mark(paths, tmp_path):
    options = TrackingOptions(uri=f"sqlite:///{tmp_path}/a.db")
    draw_plan(paths, make_plan())
    assert not is_tracked(paths, options)
    mark_as_tracked(paths, options)
    assert is_tracked(paths, options)
    assert not is_tracked(paths, TrackingOptions(uri=f"sqlite:///{tmp_path}/b.db"))
    assert not is_tracked(paths, TrackingOptions(uri=options.uri, image_axis="style"))
    assert not is_tracked(paths, TrackingOptions(uri=options.uri, experiment="another"))
    assert not is_tracked(paths, TrackingOptions(uri=options.uri, log_images=False))
    draw_and_stop(paths, make_plan(seeds=(0, 1, 2)), num_images=1)
    assert not is_tracked(paths, options), "there is a part that the mark does not know"
