"""What made an image is printed, the printed command draws it again, and a run can be checked."""

import hashlib
import io
import os
import shlex
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from promptlab.commands.show import describe
from promptlab.commands.verify import describe as describe_verification
from promptlab.flow.verification import Verification
from promptlab.machine import describe_numerics
from promptlab.store import read_run
from tests.conftest import PAINT, Project
from tests.painters import CALLS, FREE_MEMORY
from tests.report.runs import make_run

NASTY = "a \"fox\", isn't {it} $HOME `x` ${y} \\' #1: é 🦊"


@pytest.fixture
def nasty_run(project: Project):
    from promptlab.configs.quoting import quote
    from promptlab.planning.language import Pattern

    subject = quote(str(Pattern.literal(NASTY)))
    done = project.run("sweep", f"subject={subject}", "style=noto", "temperature=0.7", "seeds=0-2")
    assert done.code == 0, done.err
    return project.rows()


def test_show_prints_everything_and_a_command_that_draws_identical_pixels(
    project: Project, nasty_run, capsys
):
    row = nasty_run[1]
    shown = project.run("show", row["image_id"][:10])
    assert shown.code == 0
    for text in (row["image_id"], "noto", "0.7", row["sha256"], row["path"], "paint"):
        assert text in shown.out
    command = project.run("show", row["image_id"], "--command").out.strip()
    assert f"Draw it again:\n  {command}\n" in shown.out
    words = shlex.split(command)
    assert words[0] == "promptlab"
    again = project.run(*words[1:], "reuse=false", "runs_dir=again")
    assert again.code == 0, again.err
    (run,) = (project.path / "again").iterdir()
    (redrawn,) = read_run(str(run)).rows()
    assert redrawn["image_id"] == row["image_id"]
    assert redrawn["sha256"] == row["sha256"]
    assert pixels(project.path / "again" / run.name / redrawn["path"]) == pixels(
        project.runs[0] / row["path"]
    )


def pixels(path):
    return hashlib.sha256(Image.open(io.BytesIO(path.read_bytes())).tobytes()).hexdigest()


def test_show_does_not_obey_what_a_prompt_holds(project: Project):
    assert project.run("sweep", "subject='a\x1b[31m fox'", "style=none").code == 0
    (row,) = project.rows()
    assert "\x1b" not in project.run("show", row["image_id"]).out


def test_show_of_an_unknown_image_is_one_message(project: Project):
    done = project.run("show", "ffff")
    assert done.code != 0
    assert "holds an image 'ffff'" in done.err


def test_verify_finds_a_run_bit_for_bit_the_same(project: Project, nasty_run):
    done = project.run("verify", "--sample", "20")
    assert (done.code, done.out.splitlines()[-1]) == (
        0,
        "3 of 3 images are bit for bit the same.",
    )


def test_verify_draws_as_many_images_as_it_is_asked_for_and_none_that_failed(project: Project):
    command = ("sweep", "-m", "subject=a fox,a yak", "seeds=3", "model.fails_on=yak")
    assert project.run(*command).code == 1
    for sample, number in (("2", 2), ("20", 3)):
        done = project.run("verify", "--sample", sample)
        assert done.out == f"{number} of {number} images are bit for bit the same.\n"
    assert project.run("verify", "--sample", "0").code == 1
    assert project.run("sweep", "subject=a yak", "model.fails_on=yak").code == 1
    assert "holds no image to verify" in project.run("verify").err


@pytest.mark.parametrize(
    ("verified", "text"),
    [
        (Verification(), "4 of 4 images are bit for bit the same."),
        (Verification([("a", "x"), ("a", "y")]), "3 of 4 images are bit for bit the same."),
        (Verification([("a", "x")], {"a": 200, "b": 3}), "2 of 4 images are bit for bit the same."),
        (Verification([], {"b": 3}), "1 was drawn on another kind of processor: at most 3 of 255"),
        (
            Verification([], {"b": 3, "c": 9}),
            "2 were drawn on another kind of processor: at most 9",
        ),
    ],
)
def test_an_image_counts_once_however_many_problems_it_has(verified, text):
    assert text in describe_verification(verified, 4)


def test_show_lists_what_is_known_of_an_image_and_nothing_else(tmp_path):
    root = make_run(tmp_path / "run", subjects=["a fox"], styles=["noto"], num_seeds=1)
    (row,) = read_run(root).rows()
    plain = facts(row)
    assert not plain.keys() & {"cost", "not read", "not seen", "drawn from", "descends from"}
    assert plain["file"] == f"runs/x/{row['path']}"
    changed = {
        **{"cost_usd": 0.0, "prompt_truncated": True, "unseen": "yak", "parent_ids": ["p", "q"]},
        **{"source_id": "s" * 16, "is_source_repeatable": False, "path": None, "width": 0},
        **{"status": "failed", "error": "too dark"},
    }
    shown = facts({**row, **changed})
    assert shown["cost"] == "0 USD"
    assert shown["status"] == "failed: too dark"
    assert shown["not seen"] == "yak"
    assert "too long" in shown["not read"]
    assert shown["descends from"] == "p, q"
    assert shown["drawn from"].startswith("s" * 16 + ", which cannot be drawn again")
    assert not shown.keys() & {"file", "size"}
    repeatable = facts({**row, "source_id": "s" * 16, "is_source_repeatable": True})
    assert repeatable["drawn from"] == "s" * 16


def facts(row) -> dict[str, str]:
    """Return what `promptlab show` says of a row, by its names."""
    lines = describe(row, {"place": "here"}, "runs/x")
    width = max(line.index("  ") for line in lines if "  " in line)
    assert f"{'place':<{width}}  here" in lines
    return {line[:width].strip(): line[width:].strip() for line in lines}


def test_verify_finds_a_changed_png_and_a_changed_model(project: Project, nasty_run):
    run, row = project.runs[-1], nasty_run[0]
    png = run / row["path"]
    Image.new("RGB", (32, 32), (1, 2, 3)).save(png)
    done = project.run("verify", str(run))
    assert done.code == 1
    assert f"{row['image_id']}: its PNG holds other pixels than were drawn" in done.out
    assert done.out.splitlines()[-1] == "2 of 3 images are bit for bit the same."

    yaml = run / "sweep.yaml"
    yaml.write_text(yaml.read_text().replace("size: 32", "size: 16"))
    done = project.run("verify", str(run))
    assert done.code == 1
    assert done.out.count("comes out otherwise on cpu in float32") == 3


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")  # MLflow's own
def test_sync_says_what_it_did_and_the_second_time_that_nothing_was_missing(
    project: Project, nasty_run, tmp_path, monkeypatch
):
    from tests.tracking.holding import make_database

    uri = make_database(tmp_path)
    first = project.run("sync", "--uri", uri)
    assert first.code == 0
    assert "holds 3 images" in first.out
    assert "3 were missing" in first.out
    assert "0 were missing" in project.run("sync", "--uri", uri).out
    assert os.listdir(tmp_path / "mlartifacts")


def test_the_redraw_command_works_where_file_and_model_have_different_names(project: Project):
    project.write("conf/model/mine.yaml", PAINT.format(name="another name"))
    assert project.run("sweep", "model=mine", "model.size=16", "subject=a fox").code == 0
    (row,) = project.rows()
    assert row["model"] == "another name"
    words = shlex.split(project.run("show", row["image_id"], "--command").out.strip())
    assert "model=mine" in words
    again = project.run(*words[1:], "reuse=false", "runs_dir=again")
    assert again.code == 0, again.err
    (run,) = (project.path / "again").iterdir()
    (redrawn,) = read_run(str(run)).rows()
    assert (redrawn["image_id"], redrawn["sha256"]) == (row["image_id"], row["sha256"])


def test_verify_of_a_sweep_over_dtypes_draws_each_row_in_its_own(project: Project):
    model = PAINT.replace("PaintModel", "RoundingModel").replace("size: 32", "dtype: float32")
    project.write("conf/model/paint.yaml", model.format(name="paint"))
    done = project.run("sweep", "-m", "subject=a fox", "model.dtype=float32,bfloat16", "seeds=2")
    assert done.code == 0, done.err
    assert len({row["sha256"] for row in project.rows()}) == 4
    done = project.run("verify")
    assert done.out == "4 of 4 images are bit for bit the same.\n"


def redraw_brighter(project: Project, levels: int, numerics: str) -> tuple[int, str]:
    """Draw three images, say that others' numerics drew them, and verify them `levels` apart."""
    done = project.run("sweep", "subject=a fox", "seeds=3", "+model.brightness=0")
    assert done.code == 0, done.err
    run = project.runs[-1]
    (part,) = (run / "images.parquet").glob("part-*")
    table = pq.read_table(part)
    column = table.schema.get_field_index("numerics")
    field, values = table.schema.field(column), pa.array([numerics] * 3)
    pq.write_table(table.set_column(column, field, values), part)
    text = (run / "sweep.yaml").read_text()
    assert "brightness: 0" in text
    (run / "sweep.yaml").write_text(text.replace("brightness: 0", f"brightness: {levels}"))
    done = project.run("verify")
    return done.code, done.out


def test_verify_takes_near_pixels_of_another_kind_of_processor(project: Project):
    code, out = redraw_brighter(project, 15, "a processor of 1995")
    assert code == 0
    assert "0 of 3 images are bit for bit the same." in out
    assert "3 were drawn on another kind of processor: at most 15 of 255 levels apart." in out


def test_verify_refuses_far_pixels_of_another_kind_of_processor(project: Project):
    code, out = redraw_brighter(project, 127, "a processor of 1995")
    assert code == 1
    assert out.count("comes out otherwise") == 3
    assert "127 of 255 levels apart" in out


def test_verify_wants_equal_bits_of_the_same_kind_of_processor(project: Project):
    code, out = redraw_brighter(project, 1, describe_numerics("cpu"))
    assert code == 1
    assert out.count("1 of 255 levels apart") == 3


def test_verify_only_checks_the_files_of_a_model_that_promises_nothing(project: Project):
    assert project.run("sweep", "subject=a fox", "+model.is_deterministic=false").code == 0
    shown = project.run("show", project.rows()[0]["image_id"]).out
    assert "Draw another one, whose pixels may differ" in shown
    CALLS.clear()
    done = project.run("verify")
    assert done.code == 0
    assert "paint promises no equal pixels" in done.out
    assert CALLS == []


def test_verify_refuses_weights_other_than_those_that_drew_the_run(project: Project, nasty_run):
    project.write("conf/model/paint.yaml", PAINT.format(name="paint"))
    yaml = project.runs[-1] / "sweep.yaml"
    yaml.write_text(yaml.read_text().replace("size: 32", "fingerprint: ffffffffffffffff"))
    done = project.run("verify")
    assert done.code == 1
    assert "The weights of paint have changed" in done.err


def redrawn(project: Project, image_id: str) -> tuple[str, list[dict]]:
    """Return the redraw command of an image and the rows that it draws."""
    command = project.run("show", image_id, "--command").out.strip()
    done = project.run(*shlex.split(command)[1:], "reuse=false", "runs_dir=again")
    assert done.code == 0, done.err
    return command, read_run(str(max((project.path / "again").iterdir()))).rows()


def test_the_redraw_command_keeps_the_cells_own_words(project: Project):
    grid = ("-m", "subject='a {red|blue} robot'", "template=cctv", "action=asleep,awake")
    assert project.run("sweep", *grid, "style=noto").code == 0
    row = project.rows()[-1]
    assert row["prompt"] == "cctv footage of a blue robot awake in the style of noto"
    command, (again,) = redrawn(project, row["image_id"])
    for word in ("template=cctv", "style=noto", "subject='a blue robot'", "action=awake"):
        assert word in command
    names = ("image_id", "sha256", "subject", "style", "template")
    assert [again[name] for name in names] == [row[name] for name in names]


def test_the_redraw_command_has_the_whole_prompt_where_the_configs_have_changed(project: Project):
    project.write("conf/style/mine.yaml", 'pattern: "{prompt}, mine"')
    project.run("sweep", "subject=a fox", "style=mine")
    (row,) = project.rows()
    for change in ('pattern: "{prompt}, yours"', None):
        if change is None:
            (project.path / "conf/style/mine.yaml").unlink()
        else:
            project.write("conf/style/mine.yaml", change)
        command, (again,) = redrawn(project, row["image_id"])
        assert "style=none" in command
        assert (again["image_id"], again["prompt"]) == (row["image_id"], "a fox, mine")


def test_a_padded_batch_of_the_time_of_drawing_is_used_again(
    project: Project, monkeypatch: pytest.MonkeyPatch
):
    text = PAINT.replace("PaintModel", "PaddedModel").replace("size: 32", "batch_size: 0")
    project.write("conf/model/paint.yaml", text.format(name="paint"))
    assert project.run("sweep", "subject=a fox", "seeds=2").code == 0
    row = project.rows()[0]
    assert row["batch_size"] == 8
    monkeypatch.setitem(FREE_MEMORY, "images", 4)
    assert project.run("verify").out == "2 of 2 images are bit for bit the same.\n"
    command, (again,) = redrawn(project, row["image_id"])
    assert "model.batch_size=8" in command
    assert (again["image_id"], again["sha256"]) == (row["image_id"], row["sha256"])


def test_a_beginning_that_many_images_share_names_a_few_of_them(project: Project):
    project.run("sweep", "subject=a fox", "seeds=100")
    beginnings = Counter(row["image_id"][0] for row in project.rows())
    beginning, number = beginnings.most_common(1)[0]
    done = project.run("show", beginning)
    assert done.code == 1
    assert f"is the beginning of {number} images' ids" in done.err
    assert done.err.count(", ") == 5
    assert "…. Add digits." in done.err
