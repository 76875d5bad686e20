import base64
import hashlib
import html
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from promptlab.errors import ReportError
from promptlab.report import ReportOptions, write_contact_sheet, write_standalone
from promptlab.report.page import script_json
from promptlab.report.thumbnails import (
    Source,
    Thumbnail,
    ThumbnailCache,
    make_thumbnail,
    make_thumbnails,
)
from promptlab.store import read_run
from tests.painters import PaintModel
from tests.report.runs import make_run


@pytest.mark.parametrize(
    "text", ["</script>", "<!--", "]]>", "\u2028", "&amp;", "\ud83d", "\x00", "ü🦊", "\\u003c"]
)
def test_json_in_a_script_means_the_same_and_cannot_end_it(text):
    written = script_json({text: [text]})
    assert json.loads(written) == {text: [text]}
    assert not set("<>&\u2028\u2029") & set(written)
    written.encode("utf-8")


def test_the_policy_admits_exactly_the_script_and_the_style_of_the_page(foxes, tmp_path):
    text = Path(write_standalone(foxes, tmp_path / "page.html")).read_text()
    policy = html.unescape(re.search(r'Security-Policy" content="([^"]+)"', text)[1])
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag, name in (("script", "script-src"), ("style", "style-src")):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.S)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{name} 'sha256-{digest}'" in policy
    assert "https://" not in re.sub(r"http://www\.w3\.org/\S+", "", text.split("<script", 1)[0])


def test_the_program_never_parses_markup():
    static = Path(__file__).parents[2] / "src" / "promptlab" / "report" / "static"
    for path in static.glob("*.js"):
        text = path.read_text()
        for forbidden in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
        ):
            assert forbidden not in text, f"{forbidden} in {path.name}"


@pytest.mark.parametrize("name", ["{{DATA}}", "$data", "${script}", "$title</title>"])
def test_a_sweep_named_like_a_placeholder_has_a_page(tmp_path, name):
    root = make_run(tmp_path / "run", sweep=name)
    text = Path(write_contact_sheet(root).index_html).read_text()
    assert f"<title>{html.escape(name)}</title>" in text
    assert text.count("</script>") == 3, "the data, one pack and the program"


def test_the_second_page_makes_no_thumbnail_again(tmp_path, monkeypatch):
    root = make_run(tmp_path / "run")
    first = Path(write_contact_sheet(root).index_html).read_text()
    monkeypatch.setattr("promptlab.report.thumbnails.make_thumbnail", None)
    second = Path(write_contact_sheet(root).index_html).read_text()
    made_at = re.compile(r'"made_at":"[^"]+"')
    assert made_at.sub("", first) == made_at.sub("", second)


def test_a_broken_cache_is_made_again(tmp_path):
    root = make_run(tmp_path / "run")
    write_contact_sheet(root)
    (cache,) = Path(root, ".thumbnails").iterdir()
    cache.write_bytes(b"no database")
    assert write_contact_sheet(root).num_images == 24
    assert len(ThumbnailCache(root, 160).read()) == 24


def test_thumbnails_of_several_processes_are_those_of_one_in_the_same_order(foxes, monkeypatch):
    monkeypatch.setattr("promptlab.report.thumbnails.MIN_FOR_PROCESSES", 1)
    rows = read_run(foxes).rows()
    sources = [Source(r["image_id"], r["sha256"], Path(foxes, r["path"])) for r in rows]
    alone = [make_thumbnail(source, 32) for source in sources]
    assert list(make_thumbnails(iter(sources), len(sources), 32, 2)) == alone


def test_the_processes_ignore_modules_of_the_working_directory(foxes, tmp_path, monkeypatch):
    for name in ("types", "random", "pickle", "PIL"):
        (tmp_path / f"{name}.py").write_text("open('was_run', 'w'); raise SystemExit('not ours')")
    monkeypatch.setattr("promptlab.report.thumbnails.MIN_FOR_PROCESSES", 1)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    rows = read_run(foxes).rows()[:2]
    sources = [Source(r["image_id"], r["sha256"], Path(foxes, r["path"])) for r in rows]
    monkeypatch.chdir(tmp_path)
    assert len(list(make_thumbnails(iter(sources), len(sources), 32, 2))) == len(sources)


def test_a_script_is_not_run_again_by_the_processes_that_make_thumbnails(tmp_path):
    script = tmp_path / "draw.py"
    script.write_text(
        """\
import io
from PIL import Image
from promptlab.report.thumbnails import MIN_FOR_PROCESSES, Source, make_thumbnails
file = io.BytesIO()
Image.new("RGB", (8, 8)).save(file, "PNG")
sources = [Source("0" * 16, "", file.getvalue())] * MIN_FOR_PROCESSES
print(len(list(make_thumbnails(sources, len(sources), 32, 2))) == len(sources))
"""
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("True\n", "")
    assert not Path("was_run").exists()
    assert "PYTHONSAFEPATH" not in os.environ


def test_a_picture_that_cannot_be_read_is_left_out_with_a_warning(tmp_path, caplog):
    root = make_run(tmp_path / "run", embed_images=False)
    broken = Path(root, read_run(root).rows(["path"])[0]["path"])
    broken.write_bytes(b"\x89PNG broken")
    assert write_contact_sheet(root).num_images == 24
    assert "No thumbnail" in caplog.text


def test_images_that_are_only_in_parquet_are_shown(tmp_path):
    root = make_run(tmp_path / "run")
    for path in Path(root, "images").iterdir():
        path.unlink()
    text = Path(write_contact_sheet(root).index_html).read_text()
    assert len(re.findall(r'"(UklGR[^"]+)"', text)) == 24, "a WebP for each"


def test_a_page_elsewhere_links_to_the_images_of_the_run(tmp_path):
    root = make_run(tmp_path / "runs" / "run with spaces")
    index = write_contact_sheet(root, ReportOptions(output=str(tmp_path / "out"))).index_html
    base = re.search(r'"base":"([^"]*)"', Path(index).read_text())[1]
    assert base == "../runs/run%20with%20spaces/"


def test_a_run_on_a_remote_store_gets_its_page_there(tmp_path):
    import fsspec

    local = make_run(tmp_path / "run", subjects=["a fox"])
    memory = fsspec.filesystem("memory")
    memory.put(local, "/report-test/run", recursive=True)
    files = write_contact_sheet("memory://report-test/run", ReportOptions(single_file_mb=0))
    assert files.index_html == "memory://report-test/run/index.html"
    names = {Path(path).name for path in memory.ls("/report-test/run", detail=False)}
    assert {"index.html", "contact_sheet.png", "sheet"} <= names
    data = next(p for p in memory.ls("/report-test/run/sheet", detail=False) if "data-" in p)
    assert b'"base":""' in memory.cat(data)
    assert not Path("memory:").exists()


def test_a_sheet_too_large_for_one_file_is_not_written(tmp_path, caplog):
    root = make_run(tmp_path / "run")
    assert write_standalone(root, tmp_path / "page.html", max_mb=0.01) is None
    assert not (tmp_path / "page.html").exists()
    assert "Share the run folder" in caplog.text


def test_whole_images_are_left_out_when_not_all_fit(tmp_path):
    root = make_run(tmp_path / "run", model=PaintModel(size=400), grain=20.0, num_seeds=1)
    whole = Path(write_standalone(root, tmp_path / "whole.html", max_mb=8)).stat().st_size
    small = Path(write_standalone(root, tmp_path / "small.html", max_mb=0.5)).stat().st_size
    assert small < 0.5 * 2**20 < whole


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    root = make_run(tmp_path / "run")
    Path(root).chmod(0o500)
    with pytest.raises(ReportError, match="cannot be written"):
        write_contact_sheet(root)


def test_an_output_that_is_a_file_is_named(tmp_path):
    root = make_run(tmp_path / "run")
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportError, match="cannot be written"):
        write_contact_sheet(root, ReportOptions(output=str(tmp_path / "file")))


@pytest.mark.parametrize(
    "options", [{"thumbnail_px": 4}, {"processes": 0}, {"rows": "x", "columns": "x"}]
)
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(ReportError):
        ReportOptions(**options)


def test_a_run_behind_a_url_keeps_no_thumbnails_and_says_nothing_of_it(caplog):
    thumbnail = Thumbnail("0" * 16, "", 1, 1, 0, b"", is_native=True)
    with caplog.at_level("INFO"):
        ThumbnailCache("s3://bucket/runs/one", 160).add([thumbnail])
    assert not caplog.records
