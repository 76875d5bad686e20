"""The page in a real browser, from disk, as a person uses it."""

import functools
import http.server
import json
import re
import threading
from pathlib import Path

import pytest

from promptlab.report import ReportOptions, write_contact_sheet, write_standalone
from promptlab.store import read_run
from promptlab.verdicts import picks
from tests.painters import PaintModel
from tests.report.browsing import wait_until
from tests.report.runs import make_run, write_scores

pytestmark = pytest.mark.browser

NASTY = [
    "<img src=x onerror=\"document.title='owned'\">",
    "</script><script>document.title='owned'</script>",
    "\u202eright to left override\u202c and \u2066isolate",
    "long " * 1000,
    "&lt;b&gt; &amp; \"quotes\" 'single' `back`",
    "NUL \x00 and newline\nand tab\t and emoji 🦊",
    "${alert(1)} {{TITLE}} {{DATA}} <!-- -->",
]


def test_it_opens_from_disk_and_shows_every_cell_with_its_picture(browse, sheet):
    page = browse().open(sheet).settle()
    assert page.rows() == ["a fox", "a robot", "a lighthouse", "a tiger"]
    assert page.columns() == ["noto", "openmoji", "twemoji"]
    sizes = page.page.eval_on_selector_all(".slot img", "n => n.map(i => i.naturalWidth)")
    assert len(sizes) == 12
    assert min(sizes) > 0


def test_every_address_in_the_page_exists(browse, sheet):
    page = browse().open(sheet).settle()
    page.page.click(".slot")
    href = page.page.get_attribute(".actions a", "href")
    assert (Path(sheet).parent / href).is_file()
    written = Path(sheet).read_text()
    paths = json.loads(re.search(r'"path":(\[[^\]]*\])', written)[1])
    assert all((Path(sheet).parent / path).is_file() for path in paths)


def test_axes_are_exchanged_and_the_url_brings_the_same_page_back(browse, sheet):
    page = browse().open(sheet)
    page.page.select_option('select[aria-label="Rows"]', "seed")
    assert page.columns() == ["noto", "openmoji", "twemoji"]
    assert page.rows() == ["seed 0", "seed 1"]
    page.page.select_option('select[aria-label="Columns"]', "seed")
    assert page.rows() == ["noto", "openmoji", "twemoji"], "the displaced axis takes the old place"
    address = page.hash()
    again = browse().open(sheet, address)
    assert (again.rows(), again.columns()) == (page.rows(), page.columns())
    page.page.reload()
    page.page.wait_for_selector(".col-head")
    assert page.columns() == ["seed 0", "seed 1"]


def test_every_axis_can_go_to_rows_columns_cells_or_the_stack(browse, sheet):
    page = browse().open(sheet)
    page.keys("s")
    page.page.select_option('select[aria-label="Place of seed"]', "inner")
    slots = page.page.eval_on_selector(".cell", "c => c.querySelectorAll('.slot').length")
    assert slots == 2
    page.page.select_option('select[aria-label="Place of seed"]', "cols")
    assert len(page.columns()) == 6
    page.page.select_option('select[aria-label="Place of style"]', "")
    assert page.columns() == ["seed 0", "seed 1"]
    assert "cols=seed" in page.hash()


def test_values_are_hidden_reordered_and_sorted(browse, sheet):
    page = browse().open(sheet)
    page.keys("s")
    page.page.click("details[data-axis=style] summary")
    page.page.click('button[aria-label="Move twemoji up"]')
    assert page.columns() == ["noto", "twemoji", "openmoji"]
    page.page.uncheck('input[aria-label="Show style noto"]')
    assert page.columns() == ["twemoji", "openmoji"]
    page.page.select_option('select[aria-label="Sort rows"]', "name")
    assert page.rows() == sorted(page.rows())
    page.page.select_option('select[aria-label="Sort rows"]', "score:agreement")
    assert page.rows()[0] == "a tiger", "the last drawn have the highest scores in this run"
    address = page.hash()
    again = browse().open(sheet, address)
    assert again.columns() == ["twemoji", "openmoji"]
    assert again.rows() == page.rows()


def test_finding_words_leaves_the_images_that_have_them(browse, sheet):
    page = browse().open(sheet)
    page.keys("/")
    page.page.fill('input[type="search"]', "TIGER noto")
    assert page.rows() == ["a tiger"]
    assert page.columns() == ["noto"]
    page.page.fill('input[type="search"]', "unicorn")
    assert page.page.inner_text(".message p") == "No images match these filters."


def test_stacks_open_to_all_candidates(browse, sheet):
    page = browse().open(sheet).settle()
    assert page.texts(".count")[:2] == ["2", "2"]
    assert len(page.labels()) == 12
    page.keys("o")
    assert len(page.labels()) == 24
    assert "open=1" in page.hash()


def test_one_prompt_with_many_seeds_is_a_wall_of_its_candidates(browse, tmp_path):
    root = make_run(tmp_path / "run", subjects=["a fox"], styles=["noto"], num_seeds=30)
    page = browse().open(write_contact_sheet(root, ReportOptions(png=False)).index_html).settle()
    boxes = [slot.bounding_box() for slot in page.page.locator(".slot:not([hidden])").all()]
    assert len(boxes) == 30
    assert len({box["x"] for box in boxes}) >= 6, "the width is filled"
    assert max(box["x"] + box["width"] for box in boxes) <= 1280
    assert max(box["y"] + box["height"] for box in boxes) <= 900, "and all fit the window"
    assert page.texts(".wall-caption")[3] == "seed 3"


def test_the_large_view_walks_along_columns_rows_and_candidates(browse, sheet):
    page = browse().open(sheet).focus_grid()
    page.keys("Enter")

    def title():
        return page.texts(".lightbox-title span")

    assert title() == ["a fox", "noto", "seed 1"], "the better score of the two comes first"
    page.keys("ArrowRight")
    assert title() == ["a fox", "openmoji", "seed 1"]
    page.keys("ArrowDown")
    assert title() == ["a robot", "openmoji", "seed 1"]
    page.keys("Shift+ArrowRight")
    assert title() == ["a robot", "openmoji", "seed 0"]
    page.keys("ArrowUp", "ArrowLeft")
    assert title() == ["a fox", "noto", "seed 0"], "the seed stays while walking"
    page.keys("ArrowLeft")
    assert title() == ["a fox", "noto", "seed 0"], "the edge is the edge"
    page.keys("Escape")
    page.page.wait_for_selector("dialog", state="detached")
    assert page.page.evaluate("document.activeElement.id") == "plane"


def test_one_key_flips_between_two_styles_in_place_and_back(browse, sheet):
    page = browse().open(sheet).focus_grid()
    page.keys("Enter")
    page.page.select_option('select[aria-label="Value to flip to"]', label="twemoji")
    page.page.focus(".stage")
    page.keys("+", "+")
    zoomed = page.page.eval_on_selector(".pane img", "i => i.style.transform")
    page.keys(" ")
    assert page.texts(".lightbox-title span")[1] == "twemoji"
    assert page.page.eval_on_selector(".pane img", "i => i.style.transform") == zoomed
    page.keys(" ")
    assert page.texts(".lightbox-title span")[1] == "noto"


def test_the_large_view_says_everything_and_links_to_it(browse, sheet, foxes):
    page = browse().open(sheet).focus_grid()
    page.keys("Enter")
    names = page.texts(".details dt")
    facts = dict(zip(names, page.texts(".details dd"), strict=True))
    row = next(r for r in read_run(foxes).rows() if r["image_id"] == facts["image id"])
    assert facts["prompt"] == row["prompt"]
    for name, value in json.loads(row["params"]).items():
        assert float(facts[name]) == value
    assert facts["weights"] == row["model_fingerprint"]
    from promptlab.planning.redraw import redraw_command

    assert page.texts(".command") == [redraw_command(row)]
    again = browse().open(sheet, page.hash())
    assert dict(zip(again.texts(".details dt"), again.texts(".details dd"), strict=True)) == facts


def test_prompt_and_command_are_copied(browse, sheet):
    page = browse(permissions=["clipboard-read", "clipboard-write"]).open(sheet).focus_grid()
    page.keys("Enter")
    page.page.click("text=Copy prompt")
    page.wait("document.querySelector('.toast').textContent === 'Prompt copied'")
    assert page.page.evaluate("navigator.clipboard.readText()") == page.texts(".details dd")[0]
    page.page.click("text=Copy redraw command")
    page.wait("document.querySelector('.toast').textContent === 'Command copied'")
    assert page.page.evaluate("navigator.clipboard.readText()") == page.texts(".command")[0]


def test_what_the_model_did_not_see_is_said(browse, tmp_path):
    root = make_run(tmp_path / "run", subjects=["a fox"], unseen="the last 3 words")
    page = (
        browse().open(write_contact_sheet(root, ReportOptions(png=False)).index_html).focus_grid()
    )
    page.keys("Enter")
    assert "the last 3 words" in page.texts(".details dd.warning")


def test_chosen_images_are_surveyed_under_one_zoom(browse, sheet):
    page = browse().open(sheet).focus_grid()
    page.keys("c", "ArrowRight", "c", "ArrowRight", "c", "v")
    assert page.page.get_attribute(".stage", "data-count") == "3"
    page.page.hover(".pane:nth-child(2)", position={"x": 40, "y": 60})
    page.page.mouse.wheel(0, -600)
    transforms = page.page.eval_on_selector_all(
        ".pane img:first-child", "n => n.map(i => i.style.transform)"
    )
    assert len(set(transforms)) == 1
    assert "scale(1)" not in transforms[0]


def test_keys_rate_favour_reject_and_undo(browse, sheet):
    page = browse().open(sheet, "#open=1").focus_grid()
    page.keys("4")
    assert page.texts(".verdict")[0] == "★★★★"
    page.keys("f")
    assert page.texts(".verdict")[0] == "♥ ★★★★"
    page.keys("x")
    assert "is-reject" in page.page.get_attribute(".slot", "class")
    page.keys("u")
    assert page.texts(".verdict")[0] == "♥ ★★★★"
    page.keys("u", "Control+z")
    assert page.texts(".verdict")[0] == ""


def test_picks_survive_a_reload_and_the_picks_view_shows_them_alone(browse, sheet):
    page = browse().open(sheet).focus_grid()
    page.keys("ArrowRight", "5", "ArrowDown", "x")
    page.page.reload()
    page.page.wait_for_selector("button.has-picks")
    assert page.texts(".verdict")[1] == "★★★★★"
    page.focus_grid()
    page.keys("p")
    assert page.rows() == ["a fox"]
    assert page.columns() == ["openmoji"]
    assert "view=picks" in page.hash()


def test_picks_leave_as_json_come_in_by_the_command_and_stay_on_the_next_page(browse, tmp_path):
    root = make_run(tmp_path / "run")
    index = write_contact_sheet(root, ReportOptions(png=False)).index_html
    page = browse(accept_downloads=True).open(index).focus_grid()
    page.keys("5", "n")
    page.page.keyboard.type("gold <b>& more")
    page.keys("Escape", "Escape", "ArrowDown", "f")
    page.page.click("text=Save 2")
    with page.page.expect_download() as download:
        page.page.click("text=Save picks_run.json")
    assert download.value.suggested_filename == "picks_run.json"
    exported = download.value.path().read_text()
    assert picks.record_picks(root, picks.picks_from_json(exported, who="ann")) >= 2
    assert sorted(p.verdict for p in picks.current_picks(root).values()) == ["5", "favourite"]
    assert "gold <b>& more" in [p.note for p in picks.current_picks(root).values()]

    stranger = browse().open(
        write_contact_sheet(root, ReportOptions(png=False)).index_html
    )  # no storage of its own
    assert stranger.texts(".verdict")[0] == "★★★★★ ✎"
    again = browse(accept_downloads=True).open(index)
    again.keys("s")
    with again.page.expect_file_chooser() as chooser:
        again.page.click("text=Load picks")
    chooser.value.set_files(
        {"name": "picks.json", "mimeType": "application/json", "buffer": exported.encode()}
    )
    again.wait("document.querySelector('.toast').textContent.includes('new pick')")


def test_blind_mode_hides_labels_until_an_image_is_judged(browse, sheet):
    page = browse().open(sheet)
    page.keys("b")
    assert page.columns() == ["?", "?", "?"], "a letter would stand for another style in each row"
    assert page.rows()[0] == "a fox"
    assert all("label hidden" in label for label in page.labels())
    html = page.page.inner_html("#plane")
    assert not any(style in html for style in ("openmoji", "twemoji", "noto"))
    page.page.click(".slot")
    panel = page.page.inner_text("dialog")
    assert not any(style in panel for style in ("openmoji", "twemoji", "noto"))
    page.keys("4")
    assert any(s in page.page.inner_text("dialog") for s in ("openmoji", "twemoji", "noto"))
    page.keys("Escape")
    assert sum("label hidden" not in label for label in page.labels()) == 1


def test_margins_tell_the_numbers_of_each_row_and_column(browse, tmp_path):
    root = make_run(tmp_path / "run", fails_on="a fox, noto")
    ids = {row["image_id"]: row for row in read_run(root).rows()}
    write_scores(root, {i: (0.75 if row["style"] == "noto" else 0.25) for i, row in ids.items()})
    favourite = next(i for i, row in ids.items() if row["subject"] == "a tiger")
    picks.record_picks(root, [picks.Pick(favourite, is_favourite=True)])
    page = browse().open(write_contact_sheet(root, ReportOptions(png=False)).index_html)
    page.keys("m")
    titles = page.page.eval_on_selector_all(
        ".col-head:nth-of-type(2) .bars li", "n => n.map(i => i.title)"
    )
    assert "mean agreement: 0.75" in titles
    assert "failed: 2 (lower is better)" in titles
    tiger = page.page.eval_on_selector_all(
        ".row:nth-of-type(5) .bars li", "n => n.map(i => i.title)"
    )
    assert "pick rate: 1 of 1 (100 % of the judged images)" in tiger
    page.keys("s")
    page.page.select_option('select[aria-label="Heat map"]', "score:agreement")
    assert page.texts(".heat")[3:6] == ["0.75", "0.25", "0.25"]
    colors = page.page.eval_on_selector_all(
        ".cell", "n => n.map(i => i.style.getPropertyValue('--heat'))"
    )
    assert colors[3] != colors[4] == colors[5]
    assert page.page.eval_on_selector(".cell:nth-of-type(3) .slot img", "i => i.checkVisibility()")


def test_two_runs_stand_side_by_side_with_their_differences_marked(browse, tmp_path):
    a = make_run(tmp_path / "cool", params={"temperature": 0.5}, num_seeds=1)
    b = make_run(
        tmp_path / "warm", subjects=["a fox", "a robot", "a yak"], num_seeds=1, model=PaintModel()
    )
    page = browse().open(write_contact_sheet([a, b], ReportOptions(png=False)).index_html)
    marks = page.page.eval_on_selector_all(".slot:not([hidden])", "n => n.map(i => i.dataset.mark)")
    assert set(marks) == {"2", "3"}
    assert any("in one run only" in label for label in page.labels())
    assert any("differs between the runs" in label for label in page.labels())
    page.focus_grid()
    page.keys("Enter")
    assert page.page.eval_on_selector('select[aria-label="Axis to flip"]', "s => s.value") == "run"
    page.keys(" ")
    assert "is-flipped" in page.page.inner_html(".lightbox-title")


def test_the_same_images_in_two_runs_are_marked_as_the_same(browse, tmp_path):
    a = make_run(tmp_path / "a", num_seeds=1)
    b = make_run(tmp_path / "b", num_seeds=1)
    page = browse().open(write_contact_sheet([a, b], ReportOptions(png=False)).index_html)
    marks = page.page.eval_on_selector_all(".slot:not([hidden])", "n => n.map(i => i.dataset.mark)")
    assert set(marks) == {"1"}
    assert set(page.texts(".mark")) == {""}, "a mark on every picture is noise"
    assert page.page.locator('.chip[data-view="differences"]').count() == 0


def test_lineage_leads_to_the_parent_on_the_same_sheet(browse, tmp_path):
    parent = make_run(tmp_path / "first", subjects=["a fox"], styles=["noto"], num_seeds=1)
    parent_id = read_run(parent).rows(["image_id"])[0]["image_id"]
    child = make_run(
        tmp_path / "second",
        subjects=["a fox"],
        styles=["noto"],
        num_seeds=1,
        params={"top_k": 8},
        parent_ids=[parent_id],
    )
    page = (
        browse()
        .open(write_contact_sheet([child, parent], ReportOptions(png=False)).index_html)
        .focus_grid()
    )
    page.keys("Enter")
    assert page.texts(".lineage") == [parent_id]
    page.page.click(".lineage button")
    facts = dict(zip(page.texts(".details dt"), page.texts(".details dd"), strict=True))
    assert facts["image id"] == parent_id
    assert "Descendants" in page.texts(".details h3")


# -------------------------------------------------------------------- safety


def test_whatever_prompts_hold_is_shown_as_text_and_nothing_runs(browse, tmp_path):
    root = make_run(
        tmp_path / "run",
        subjects=NASTY,
        styles=["<b>bold</b>", "\u202estyle"],
        num_seeds=1,
        axes={"note <i>": ["</style><script>document.title='owned'</script>", "x" * 5000]},
        sweep="<script>document.title='owned'</script>",
        unseen="<img src=x onerror=document.title='owned'>",
        fails_on="&lt;b&gt;",
    )
    first = read_run(root).rows(["image_id"])[0]["image_id"]
    picks.record_picks(
        root, [picks.Pick(first, rating=3, note=NASTY[0] + NASTY[1] + "\ud83d", who=NASTY[2])]
    )
    for index in (
        write_contact_sheet(root, ReportOptions(png=False)).index_html,
        write_standalone(root, tmp_path / "alone.html"),
        write_contact_sheet(root, ReportOptions(single_file_mb=0, png=False)).index_html,
    ):
        page = browse().open(index).settle()
        assert page.page.title() == "<script>document.title='owned'</script>"
        for key in ("m", "o", "s", "s"):
            page.keys(key)
        page.page.click(".slot")
        page.keys("ArrowRight", " ", "c", "ArrowDown", "c", "Escape", "v", "Escape")
        assert page.page.locator("#plane b, #plane i:not(.bar), dialog b").count() == 0
        assert page.page.evaluate("document.querySelectorAll('img[src=x]').length") == 0
        assert page.page.title() == "<script>document.title='owned'</script>"
        page.page.wait_for_timeout(150)


def test_the_large_view_shows_nasty_texts_whole(browse, tmp_path):
    root = make_run(tmp_path / "run", subjects=NASTY, styles=["plain"], num_seeds=1)
    page = (
        browse().open(write_contact_sheet(root, ReportOptions(png=False)).index_html).focus_grid()
    )
    page.keys("Enter")
    seen = []
    for _ in NASTY:
        seen.append(page.texts(".details dd.prompt")[0])
        isolation = "n => getComputedStyle(n).unicodeBidi"
        assert page.page.eval_on_selector(".details dd.prompt", isolation) == "isolate"
        page.keys("ArrowRight")
    expected = [row["prompt"] for row in read_run(root).rows(["prompt"])]
    assert sorted(seen) == sorted(expected)


def test_the_content_security_policy_stops_injected_scripts_and_connections(browse, sheet):
    page = browse().open(sheet)
    page.page.evaluate(
        """() => { const s = document.createElement('div');
        s.innerHTML = '<img src="data:," onerror="document.title = 1">';
        document.body.append(s); }"""
    )
    page.page.wait_for_timeout(150)
    assert page.page.title() == "foxes"
    blocked = page.page.evaluate(
        "fetch('https://example.invalid/').then(() => 'sent', (error) => String(error))"
    )
    assert "sent" not in blocked
    assert any("Content Security Policy" in problem for problem in page.problems)
    page.problems.clear()


# -------------------------------------------------------------------- places


def test_a_large_sheet_is_a_page_with_a_folder_and_works_the_same_from_disk(browse, tmp_path):
    root = make_run(tmp_path / "run", num_seeds=8)
    index = write_contact_sheet(root, ReportOptions(single_file_mb=0, png=False)).index_html
    assert len(list((tmp_path / "run" / "sheet").glob("pack-*.js"))) == 2
    assert 'id="sheet-data"' not in Path(index).read_text(), "data and pictures are beside it"
    page = browse().open(index).settle()
    assert len(page.labels()) == 12
    page.focus_grid()
    page.keys("Enter")
    assert page.texts(".command")[0].startswith("promptlab sweep")
    write_contact_sheet(root, ReportOptions(single_file_mb=0, png=False))
    assert len(list((tmp_path / "run" / "sheet").glob("*.js"))) == 3, "no leftovers"


def test_a_page_without_its_folder_says_so(browse, tmp_path):
    root = make_run(tmp_path / "run")
    index = Path(write_contact_sheet(root, ReportOptions(single_file_mb=0, png=False)).index_html)
    lonely = tmp_path / "lonely.html"
    lonely.write_bytes(index.read_bytes())
    page = browse()
    page.page.goto(lonely.as_uri())
    page.page.wait_for_selector(".message")
    assert "sheet/" in page.page.inner_text(".message")
    page.problems.clear()  # the browser reports the missing file


def test_in_a_sandboxed_frame_it_shows_picks_and_hands_them_out(browse, tmp_path):
    root = make_run(tmp_path / "run", model=PaintModel(size=200))
    alone = Path(write_standalone(root, tmp_path / "alone.html"))
    viewer = tmp_path / "viewer.html"
    viewer.write_text(
        "<!doctype html><link rel=icon href='data:,'>"
        "<iframe sandbox='allow-scripts' src='alone.html' width=1000 height=700></iframe>"
    )
    handler = functools.partial(QuietHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = browse()
        page.page.goto(f"http://127.0.0.1:{server.server_port}/{viewer.name}")
        frame = page.page.frames[1]
        wait_until(frame, "document.documentElement.dataset.ready === '1'")
        frame.click(".slot")
        page.keys("5")
        wait_until(frame, "document.querySelector('.pane img').naturalWidth === 200")
        assert "keeps no verdicts" in frame.inner_text(".toast"), "said at the first verdict"
        page.keys("Escape")
        frame.click("text=Save 1: not kept here")
        assert "not saved in this view" in frame.inner_text("dialog")
        assert json.loads(frame.input_value("dialog textarea"))["picks"][0]["rating"] == 5
        server.shutdown()
    assert alone.stat().st_size > 0


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


# -------------------------------------------------------------------- people

CONTRAST = """() => {
  const luminance = (c) => c.map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color.length < 4 || color[3] === 1) return color.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const node of document.querySelectorAll('body *')) {
    const own = [...node.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    const isElsewhere = node.closest('.slot, .candidate, .heat, script, .toast, :disabled');
    if (!own || isElsewhere || !node.getClientRects().length) continue;
    const [a, b] = [parse(getComputedStyle(node).color).slice(0, 3), ground(node)].map(luminance);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(`${node.outerHTML.slice(0, 80)} ${ratio.toFixed(2)}`);
  }
  return poor;
}"""


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_every_text_stands_out_from_its_ground(browse, tmp_path, scheme):
    root = make_run(tmp_path / "run", fails_on="a fox, noto", unseen="something")
    page = browse(color_scheme=scheme).open(
        write_contact_sheet(root, ReportOptions(png=False)).index_html
    )
    page.keys("m", "s")
    page.focus_grid()
    page.keys("5", "ArrowRight", "f")
    assert page.page.evaluate(CONTRAST) == []
    page.keys("Enter")
    assert page.page.evaluate(CONTRAST) == []


def test_every_control_has_a_name_and_the_grid_has_roles(browse, sheet):
    page = browse().open(sheet)
    page.keys("s")
    page.page.click(".slot")
    unnamed = page.page.evaluate(
        """() => [...document.querySelectorAll(
            'button, select, input, textarea, [role=img], dialog')]
        .filter((n) => !(n.getAttribute('aria-label') || n.textContent.trim()))
        .map((n) => n.outerHTML.slice(0, 100))"""
    )
    assert unnamed == []
    grid = page.page.locator("[role=grid]")
    assert grid.get_attribute("aria-rowcount") == "5"
    assert grid.get_attribute("aria-colcount") == "4"
    assert page.page.locator("[role=row] [role=rowheader]").count() == 4
    assert page.page.locator("[role=columnheader]").count() == 4
    assert page.page.locator("[role=row] [role=gridcell]").count() == 12


def test_the_keyboard_reaches_everything_and_focus_is_seen(browse, sheet):
    page = browse().open(sheet)
    seen = []
    for _ in range(20):
        page.keys("Tab")
        seen.append(page.page.evaluate("document.activeElement.getAttribute('aria-label')"))
    assert {"Rows", "Columns", "Settings (S)"} <= set(seen)
    page.focus_grid()
    page.keys("ArrowRight", "ArrowDown")
    active = page.page.get_attribute("#plane", "aria-activedescendant")
    assert page.page.get_attribute(f"#{active}", "aria-label").startswith("a robot · openmoji")
    outline = page.page.eval_on_selector(f"#{active}", "n => getComputedStyle(n).outlineStyle")
    assert outline == "solid"


def test_it_is_readable_at_320_px(browse, sheet):
    page = browse(has_touch=True)
    page.page.set_viewport_size({"width": 320, "height": 568})
    page.open(sheet).settle()
    assert page.page.evaluate("document.documentElement.scrollWidth") == 320
    page.page.tap(".slot")
    assert page.page.evaluate("document.querySelector('dialog').scrollWidth") <= 320
    box = page.page.locator(".stage").bounding_box()
    assert box["height"] > 150
    page.page.tap('button[aria-label="Rate 5 of 5 (5)"]')
    page.page.tap('button[aria-label="Close (Esc)"]')
    assert page.texts(".verdict")[0] == "★★★★★"


def test_only_what_is_near_the_viewport_is_in_the_page_and_it_follows_scrolling(browse, tmp_path):
    root = make_run(
        tmp_path / "run",
        subjects=[f"subject {i:03}" for i in range(300)],
        styles=["noto", "openmoji"],
        num_seeds=1,
        model=PaintModel(size=16),
        embed_images=False,
    )
    page = browse().open(write_contact_sheet(root, ReportOptions(png=False)).index_html)
    assert page.page.evaluate("promptlabGrid.numLive()") < 400
    page.page.evaluate("document.getElementById('scroller').scrollTop = 1e9")
    page.wait(
        "[...document.querySelectorAll('.row .label')].some((n) => n.textContent === 'subject 299')"
    )
    page.settle()
    head = page.page.locator(".col-head").first.bounding_box()
    assert head["y"] < 120, "headers stay"
    assert page.page.evaluate("promptlabGrid.numLive()") < 400
