import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from promptlab.cli import main
from promptlab.store import read_run
from promptlab.verdicts import picks
from tests.report.runs import make_run

HEAVY = ("torch", "mlflow", "pandas", "hydra", "matplotlib")


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "runs" / "20261122_1200_foxes")


def first_image_id(run):
    return read_run(run).rows(["image_id"])[0]["image_id"]


def test_report_takes_the_newest_run_and_prints_what_it_wrote(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["report"]) == 0
    printed = capsys.readouterr().out.split()
    assert [Path(path).name for path in printed] == ["index.html", "contact_sheet.png"]
    assert all(Path(path).is_file() for path in printed)


def test_report_of_no_run_says_how_to_get_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["report"]) == 1
    assert "promptlab sweep" in capsys.readouterr().err


def test_report_and_picks_import_no_heavy_package(run):
    program = (
        "import sys\n"
        "from promptlab.cli import main\n"
        f"assert main(['report', {run!r}, '--processes', '1', '--no-png']) == 0\n"
        f"assert main(['report', {run!r}, '--workers', '1']) == 0\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)


def test_importing_report_imports_nothing_that_takes_long():
    program = (
        "import promptlab.report, promptlab.verdicts.picks, sys;"
        f"print([name for name in {(*HEAVY, 'pyarrow', 'PIL', 'tqdm')!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]"


def test_pick_rates_an_image_by_the_beginning_of_its_id(run, tmp_path, capsys):
    image_id = first_image_id(run)
    runs = str(tmp_path / "runs")
    arguments = ["pick", image_id[:8], "--rating", "5", "--who", "ann", "--runs-dir", runs]
    assert main([*arguments, "--note", "gold"]) == 0
    pick = picks.current_picks(run)[image_id]
    assert (pick.rating, pick.note, pick.who) == (5, "gold", "ann")
    assert image_id in capsys.readouterr().out


def test_a_second_verdict_keeps_what_the_first_one_said(run, tmp_path):
    image_id = first_image_id(run)
    where = ["--runs-dir", str(tmp_path / "runs"), "--no-report"]
    assert main(["pick", image_id, "--rating", "4", *where]) == 0
    assert main(["pick", image_id, "--favourite", *where]) == 0
    pick = picks.current_picks(run)[image_id]
    assert (pick.rating, pick.is_favourite) == (4, True)
    assert main(["pick", image_id, "--clear", *where]) == 0
    assert picks.current_picks(run) == {}


@pytest.mark.parametrize(
    "arguments",
    [["pick"], ["pick", "0" * 16], ["pick", "0" * 16, "--favourite", "--reject"]],
)
def test_a_verdict_that_says_nothing_is_answered_in_one_line(arguments, tmp_path, capsys):
    assert main([*arguments, "--runs-dir", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert message.startswith("promptlab: ")
    assert "Traceback" not in message


def test_a_reject_takes_a_favourite_back_and_the_other_way_round(run, tmp_path):
    image_id = first_image_id(run)
    where = ["--runs-dir", str(tmp_path / "runs"), "--no-report"]
    assert main(["pick", image_id, "--favourite", *where]) == 0
    assert main(["pick", image_id, "--reject", *where]) == 0
    assert picks.current_picks(run)[image_id].verdict == "reject"
    assert not picks.current_picks(run)[image_id].is_favourite
    assert main(["pick", image_id, "--rating", "4", *where]) == 0
    pick = picks.current_picks(run)[image_id]
    assert (pick.rating, pick.is_reject) == (4, False)
    assert main(["pick", image_id, "--reject", *where]) == 0
    assert picks.current_picks(run)[image_id].rating is None


def test_a_verdict_on_the_command_line_starts_from_ones_own_not_from_others(run, tmp_path):
    image_id = first_image_id(run)
    where = ["--runs-dir", str(tmp_path / "runs"), "--no-report"]
    assert main(["pick", image_id, "--rating", "5", "--who", "ann", *where]) == 0
    assert main(["pick", image_id, "--note", "hm", "--who", "bob", *where]) == 0
    (said,) = picks.newest_by_person(picks.read_picks(run)).values()
    assert [(pick.who, pick.rating) for pick in said] == [("ann", 5), ("bob", None)]


def test_a_picks_json_with_a_byte_order_mark_is_taken(run, tmp_path):
    path = tmp_path / "picks.json"
    text = picks.picks_to_json([picks.Pick(first_image_id(run), rating=5)])
    path.write_text(text, encoding="utf-8-sig")
    assert main(["pick", "--import", str(path), run, "--no-report"]) == 0
    assert len(picks.current_picks(run)) == 1


def test_the_picks_of_a_page_are_imported_and_baked_into_the_next_page(run, tmp_path, capsys):
    image_id = first_image_id(run)
    path = tmp_path / "picks.json"
    path.write_text(picks.picks_to_json([picks.Pick(image_id, rating=5, note="gold dust")]))
    assert main(["pick", "--import", str(path), run]) == 0
    assert "1 new of 1" in capsys.readouterr().out
    assert "gold dust" in Path(run, "index.html").read_text()
    assert main(["pick", "--import", str(path), run]) == 0
    assert "0 new of 1" in capsys.readouterr().out


def test_an_import_finds_its_run_and_its_file_among_the_downloads(
    run, tmp_path, monkeypatch, capsys
):
    make_run(tmp_path / "runs" / "later", subjects=["a yak"], params={"top_k": 8})  # the newest
    record = read_run(run).record
    runs = [{"name": "foxes", "root": "gone/away", "run_id": record.run_id}]
    document = json.loads(picks.picks_to_json([picks.Pick(first_image_id(run), rating=5)]))
    text = json.dumps({**document, "runs": runs})
    downloads = tmp_path / "Downloads"
    downloads.mkdir()
    (downloads / "picks_foxes.json").write_text("[]")
    (downloads / "picks_foxes (1).json").write_text(text)
    older = (downloads / "picks_foxes.json").stat().st_mtime - 60
    os.utime(downloads / "picks_foxes.json", (older, older))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DOWNLOAD_DIR", str(downloads))
    for arguments in (["picks_foxes.json"], []):
        assert main(["pick", "--import", *arguments, "--no-report"]) == 0
    assert "picks_foxes (1).json" in capsys.readouterr().out
    assert len(picks.current_picks(run)) == 1
    assert main(["pick", "--import", "picks_other.json"]) == 1
    assert "neither here nor in" in capsys.readouterr().err


def test_an_old_picks_json_finds_its_run_by_its_images(run, tmp_path, monkeypatch):
    make_run(tmp_path / "runs" / "later", subjects=["a yak"], params={"top_k": 8})
    path = tmp_path / "picks.json"
    path.write_text(picks.picks_to_json([picks.Pick(first_image_id(run), rating=5)]))
    monkeypatch.chdir(tmp_path)
    assert main(["pick", "--import", "picks.json", "--no-report"]) == 0
    assert len(picks.current_picks(run)) == 1


def test_the_list_names_run_and_prompt_whichever_run_is_the_newest(run, tmp_path, capsys):
    image_id = first_image_id(run)
    runs = str(tmp_path / "runs")
    picks.record_picks(run, [picks.Pick(image_id, rating=4, who="ann")])
    make_run(tmp_path / "runs" / "later", subjects=["a yak"], params={"top_k": 8})
    assert main(["pick", "--list", "--runs-dir", runs]) == 0
    out = capsys.readouterr().out
    prompt = read_run(run).rows()[0]["prompt"]
    assert run in out
    assert f"{image_id}" in out
    assert prompt in out
    assert main(["pick", "--list", f"{runs}/later"]) == 0
    assert "No verdicts yet in" in capsys.readouterr().out


def test_picked_images_are_copied_byte_for_byte(run, tmp_path, capsys):
    rows = read_run(run).rows()
    verdicts = [{"rating": 5}, {"is_favourite": True}, {"rating": 2}, {"is_reject": True}]
    given = [picks.Pick(r["image_id"], **v) for r, v in zip(rows[:4], verdicts, strict=True)]
    picks.record_picks(run, given)
    assert main(["pick", "--copy", str(tmp_path / "picked"), run]) == 0
    copied = {path.name: path.read_bytes() for path in (tmp_path / "picked").iterdir()}
    assert copied == {
        Path(row["path"]).name: Path(run, row["path"]).read_bytes() for row in rows[:2]
    }
    assert "2 images in" in capsys.readouterr().out


def test_a_report_of_several_runs_overwrites_none_of_theirs(run, tmp_path, monkeypatch, capsys):
    other = make_run(tmp_path / "runs" / "hot", params={"temperature": 2.0})
    monkeypatch.chdir(tmp_path)
    assert main(["report", run, other]) == 0
    index = Path(capsys.readouterr().out.split()[0])
    assert index.parent.parent == Path("reports")
    assert not Path(run, "index.html").exists()
    assert '"name":"run"' in index.read_text()
    assert main(["report", run, other]) == 0
    assert Path(capsys.readouterr().out.split()[0]) == index, "the same runs, the same folder"


def test_report_opens_the_page_in_the_browser(run, tmp_path, monkeypatch):
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    assert main(["report", run, "--no-png", "--open"]) == 0
    assert opened.read_text().strip() == Path(run, "index.html").resolve().as_uri()


def test_best_images_are_counted_and_every_other_file_is_named(run, capsys):
    assert main(["report", run, "--best", "--animate", "style"]) == 0
    out = capsys.readouterr().out
    assert "best: 12 images" in out
    assert ".webp" in out
    assert ".gif" in out


def test_picks_of_another_run_are_refused(run, tmp_path, capsys):
    path = tmp_path / "picks.json"
    path.write_text(picks.picks_to_json([picks.Pick("0" * 16, rating=5)]))
    assert main(["pick", "--import", str(path), run]) == 1
    assert "name the run" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"[1, 2]"])
def test_a_file_that_is_no_picks_json_is_refused(run, tmp_path, content, capsys):
    path = tmp_path / "picks.json"
    path.write_bytes(content)
    assert main(["pick", "--import", str(path), run]) == 1
    assert "no picks.json" in capsys.readouterr().err


def test_export_prints_what_import_takes(run, tmp_path, capsys):
    image_id = first_image_id(run)
    picks.record_picks(run, [picks.Pick(image_id, is_favourite=True)])
    assert main(["pick", "--export", run]) == 0
    text = capsys.readouterr().out
    assert picks.picks_from_json(text) == list(picks.current_picks(run).values())
    assert json.loads(text)["format"] == "promptlab-picks"
    assert main(["pick", "--list", run]) == 0
    assert f"{image_id}" in capsys.readouterr().out
