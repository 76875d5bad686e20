"""A run folder on an object store keeps the same promises; against a real S3 server on loopback."""

import contextlib
import io
import json
import time
import types

import boto3
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer

from promptlab.cli import main
from promptlab.errors import ReportError, RunLockedError
from promptlab.paths import RunPaths
from promptlab.report.data import collect
from promptlab.store import (
    StoreOptions,
    find_image,
    list_runs,
    newest_run,
    open_store,
    read_run,
    survey,
)
from promptlab.store.lock import hold_lock
from promptlab.store.parts import list_parts
from promptlab.store.storage import open_storage
from promptlab.verdicts import picks
from promptlab.verdicts.picked import picked_images
from tests.store.painting import Painter, make_plan, paint
from tests.store.sweeping import draw_and_stop, draw_plan, drawn, essence, pixels_of

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # botocore's and moto's own
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def bucket():
    """Return the URL of an empty bucket of a server on loopback."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys).create_bucket(
        Bucket="promptlab"
    )
    fsspec.config.conf["s3"] = {
        "endpoint_url": endpoint,
        "key": "testing",
        "secret": "testing",
        "client_kwargs": {"region_name": "us-east-1"},
    }
    yield "s3://promptlab"
    del fsspec.config.conf["s3"]
    fsspec.filesystem("s3").clear_instance_cache()
    server.stop()


@pytest.fixture
def remote(bucket, request):
    return RunPaths(f"{bucket}/{request.node.name}/runs/one")


def check_remote(paths, plan):
    run = read_run(paths)
    rows = run.rows()
    assert {(r["cell_id"], r["seed"]) for r in rows} == {
        (cell.cell_id, seed) for cell in plan.cells for seed in cell.seeds
    }
    assert len(rows) == plan.num_images
    for image_id, png in run.iter_images():
        assert (pixels_of(png) == paint(image_id)).all()
        assert run.image_bytes(image_id) == png
    return rows


def test_a_sweep_is_drawn_resumed_and_compacted_in_a_bucket(remote):
    plan = make_plan(seeds=range(5))
    draw_and_stop(remote, plan, num_images=12, part_rows=4)
    assert read_run(remote).num_rows == 12
    model = Painter()
    store = draw_plan(remote, make_plan(seeds=range(5), model=model))
    assert (len(model.drawn), store.counts.ok) == (8, 20)
    check_remote(remote, plan)
    parts = list_parts(open_storage(remote.root), remote.images_parquet)
    assert (len(parts.parts), parts.replaced) == (1, ())
    assert read_run(remote).record.num_images == 20


def test_runs_in_a_bucket_are_listed_searched_and_reused(remote):
    draw_plan(remote, make_plan())
    runs_dir = remote.root.rpartition("/")[0]
    assert list_runs(runs_dir) == [remote.root]
    assert newest_run(runs_dir) == remote.root
    row = read_run(remote).rows()[0]
    assert find_image(row["image_id"][:10], runs_dir)[1]["sha256"] == row["sha256"]
    plan = make_plan(seeds=(0, 1, 2))
    assert survey(None, plan, StoreOptions(runs_dir=runs_dir)).num_reused == 8
    model = Painter()
    second = RunPaths(f"{runs_dir}/two")
    draw_plan(second, make_plan(seeds=(0, 1, 2), model=model))
    assert len(model.drawn) == 4
    check_remote(second, plan)


def test_an_image_in_a_bucket_is_picked_and_its_page_shows_it(remote, capsys):
    draw_plan(remote, make_plan())
    image_id, other = (row["image_id"] for row in read_run(remote).rows()[:2])
    place = ["--runs-dir", remote.root.rpartition("/")[0]]
    assert main(["pick", image_id, "--favourite", "--who", "ann", *place]) == 0
    assert main(["pick", image_id, "--rating", "5", "--who", "ann", *place]) == 0
    pick = picks.current_picks(remote.root)[image_id]
    assert (pick.verdict, pick.rating, pick.who) == ("favourite", 5, "ann")
    assert len(picks.read_picks(remote.root)) == 2
    assert [pick.image_id for pick in collect([read_run(remote)]).picks] == [image_id]
    storage = open_storage(remote.root)
    assert image_id.encode() in storage.read_bytes(remote.index_html)
    capsys.readouterr()
    assert main(["pick", "--export", remote.root]) == 0
    (exported,) = picks.picks_from_json(capsys.readouterr().out)
    assert exported == pick
    given = picks.Pick(other, rating=2)
    assert picks.record_picks(remote.root, [given, exported]) == 1
    assert [image.image_id for image in picked_images(remote.root)] == [image_id]


def test_picks_of_a_folder_that_is_not_in_the_bucket_are_refused(bucket):
    with pytest.raises(ReportError, match="There is no run folder"):
        picks.record_picks(f"{bucket}/nothing", [picks.Pick("0" * 16)])


def test_scores_beside_a_run_in_a_bucket_are_on_its_page(remote):
    draw_plan(remote, make_plan())
    image_ids = [row["image_id"] for row in read_run(remote).rows()]
    buffer = io.BytesIO()
    pq.write_table(pa.table({"image_id": image_ids[:1], "beauty": [0.5]}), buffer)
    open_storage(remote.root).write_files({remote.scores_parquet: buffer.getvalue()})
    data = collect([read_run(remote)])
    scores = dict(zip(data.image_ids, data.scores[0].values, strict=True))
    assert scores.pop(image_ids[0]) == 0.5
    assert set(scores.values()) == {None}


def test_a_damaged_last_part_in_a_bucket_is_drawn_again(remote):
    plan = make_plan(seeds=range(5))
    draw_and_stop(remote, plan, part_rows=5)
    expected = essence(read_run(remote).rows())
    storage = open_storage(remote.root)
    storage.write_files({remote.part(3): storage.read_bytes(remote.part(3))[:700]})
    assert read_run(remote).num_rows == 15
    model = Painter()
    draw_plan(remote, make_plan(seeds=range(5), model=model))
    assert len(model.drawn) == 5
    assert essence(check_remote(remote, plan)) == expected


def test_a_living_writer_keeps_others_out_of_a_bucket(remote):
    with open_store(remote, make_plan()) as store:
        with (
            pytest.raises(RunLockedError, match="is being written by process"),
            open_store(remote, make_plan()),
        ):
            pass
        for request in store.pending("painter"):
            store.add(drawn(request))
    with open_store(remote, make_plan()) as store:
        assert store.num_done == 8


@pytest.mark.parametrize(
    "left_behind",
    [
        {"host": "elsewhere", "pid": 1, "since": "?", "owner": "x", "expires_at": 0},
        {"pid": 2**22 + 1, "since": "?", "owner": "x", "expires_at": time.time() + 3600},
        {},
    ],
    ids=["a lease that ran out", "a dead process of this machine", "half a lease"],
)
def test_the_lease_of_a_dead_writer_does_not_block(bucket, left_behind, request):
    import socket

    url = f"{bucket}/{abs(hash(request.node.name))}/.lock"
    lease = {"host": socket.gethostname(), **left_behind} if left_behind else {}
    open_storage(url).write_files({url: json.dumps(lease).encode()})
    with hold_lock(url), pytest.raises(RunLockedError), hold_lock(url):
        pass
    with contextlib.suppress(FileNotFoundError):
        open_storage(url).read_bytes(url)
        raise AssertionError("the lease was not given back")


def test_of_two_writers_that_find_a_dead_ones_lease_the_last_to_write_has_it(bucket, monkeypatch):
    url = f"{bucket}/two/.lock"
    other = {"host": "elsewhere", "pid": 1, "since": "?", "owner": "x", "expires_at": 2**40}

    def meanwhile(seconds):
        open_storage(url).write_files({url: json.dumps(other).encode()})

    monkeypatch.setattr(
        "promptlab.store.lock.time",
        types.SimpleNamespace(time=time.time, strftime=time.strftime, sleep=meanwhile),
    )
    open_storage(url).write_files({url: b"{}"})
    with pytest.raises(RunLockedError, match="process 1 on elsewhere"), hold_lock(url):
        pass
    assert json.loads(open_storage(url).read_bytes(url)) == other


def test_what_another_process_writes_and_deletes_is_seen_at_once(remote):
    storage, path = open_storage(remote.root), remote.part(0)
    other = fsspec.filesystem("s3", skip_instance_cache=True)  # another process's view
    assert (storage.list_sizes(remote.images_parquet), storage.modified_at(path)) == ({}, None)
    for look, nothing in (
        (lambda: storage.list_sizes(remote.images_parquet), {}),
        (lambda: storage.modified_at(path), None),
    ):
        other.pipe_file(path, b"rows")
        assert look() != nothing
        assert storage.list_sizes(remote.images_parquet) == {"part-000000.parquet": 4}
        other.rm_file(path)
        assert look() == nothing
