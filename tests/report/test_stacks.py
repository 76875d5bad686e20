"""Stacks of candidates: which one is on top, and what stands below an image in a wall."""

import pytest

from promptlab.report import ReportOptions, write_contact_sheet
from promptlab.report.best import order_by_liking
from promptlab.report.data import collect
from promptlab.store import read_run
from promptlab.verdicts import picks
from promptlab.verdicts.picks import Pick
from tests.report.runs import make_run
from tests.report.scripts import document_of, run_script


@pytest.fixture(scope="module")
def stacks(tmp_path_factory):
    """A page of 2 subjects with 3 candidates each."""
    root = make_run(
        tmp_path_factory.mktemp("stacks") / "run",
        subjects=["a spouting whale", "a fox"],
        styles=["fluent_high_contrast", "noto"],
        num_seeds=3,
    )
    return write_contact_sheet(root, ReportOptions(png=False)).index_html


@pytest.mark.browser
def test_a_rejected_cover_gives_way_to_the_best_candidate_that_is_left(browse, stacks):
    page = browse().open(stacks, "#open=0").focus_grid()
    assert "seed 0, the first of 3" in page.ring()
    page.keys("x")
    assert "seed 1, the first of 3" in page.ring(), "what the ring shows is what a key judges"
    page.keys("x")
    assert "seed 2" in page.ring()
    page.keys("u")
    assert "seed 1" in page.ring()
    assert page.page.locator(".slot.is-reject").count() == 0
    page.keys("x", "x")
    assert page.page.locator(".slot.is-reject").count() == 1, "all three: the first one shows it"
    assert "seed 0" in page.ring()


@pytest.mark.browser
def test_what_is_judged_in_the_large_view_moves_nothing_there_and_is_the_cover_after(
    browse, stacks
):
    page = browse().open(stacks, "#open=0").focus_grid()
    page.keys("Enter", ".", ".", "4", ",", "x")
    assert page.title()[-1] == "seed 1"
    page.keys(".")
    assert page.title()[-1] == "seed 2", "the candidates keep their order"
    page.keys("Escape")
    page.page.wait_for_selector("dialog", state="detached")
    assert "seed 2, the first of 3, 4 of 5" in page.ring()


@pytest.mark.browser
def test_candidates_of_an_open_stack_stay_where_they_are(browse, stacks):
    page = browse().open(stacks, "#open=1").focus_grid()
    before = [label.split(",")[0] for label in page.labels()]
    page.keys("x", "ArrowRight", "5")
    assert [label.split(",")[0] for label in page.labels()] == before


@pytest.mark.browser
def test_a_key_held_down_judges_once(browse, stacks):
    page = browse().open(stacks, "#open=0").focus_grid()
    for _ in range(3):
        page.page.keyboard.down("x")
    page.page.keyboard.up("x")
    assert "seed 1" in page.ring()
    page.keys("a")
    for _ in range(3):
        page.page.keyboard.down("3")
    page.page.keyboard.up("3")
    assert page.page.inner_text(".cull-counts").startswith("3 of 12 · 1 picked")


def test_images_come_before_failures_whatever_people_like_on_the_page_and_in_pictures(tmp_path):
    root = make_run(tmp_path / "run", subjects=["a fox"], styles=["noto", "openmoji"], num_seeds=1)
    failing = make_run(
        tmp_path / "failing", subjects=["a fox"], styles=["noto", "openmoji"], fails_on="openmoji"
    )
    ids = [row["image_id"] for row in read_run(root).rows() if row["style"] == "noto"]
    picks.record_picks(failing, [Pick(image_id, is_reject=True) for image_id in ids])
    program = """
    import { makeSheet } from "./data.js";
    import { orderStack } from "./layout.js";
    import { makePicks } from "./picks.js";
    const sheet = makeSheet(given.document);
    const rows = Array.from({ length: sheet.numRows }, (_, row) => row).reverse();
    orderStack(sheet, makePicks(sheet), { blind: false, sortRows: "" }, rows);
    give(rows);
    """
    order = run_script(tmp_path, program, document=document_of(failing))
    data = collect([read_run(failing)])
    assert order == order_by_liking(data, range(data.num_rows))
    assert [bool(data.has_image[row]) for row in order] == [True, True, False, False]


@pytest.mark.browser
@pytest.mark.parametrize("size", [64, 128, 320])
def test_no_caption_of_a_wall_loses_its_seed(browse, stacks, size):
    page = browse().open(stacks, f"#wall=1&size={size}").settle()
    seeds = page.page.eval_on_selector_all(
        ".cell:not(.is-empty)",
        """cells => cells.map((cell) => {
            const label = [...cell.querySelectorAll('.wall-caption .label')].pop();
            const [box, room] = [label, cell.querySelector('.wall-caption')].map(
                (node) => node.getBoundingClientRect());
            const isSeen = box.right <= room.right + 1 && box.bottom <= room.bottom + 1;
            return [label.textContent, isSeen && label.scrollWidth <= label.clientWidth + 1];
        })""",
    )
    assert [text for text, _ in seeds] == ["seed 0", "seed 1", "seed 2"] * 4
    assert all(is_seen for _, is_seen in seeds)
