"""Thumbnails that arrive after their slot has moved on to another image."""

from __future__ import annotations

import pytest

from promptlab.report import ReportOptions, write_contact_sheet
from tests.painters import PaintModel
from tests.report.runs import make_run

pytestmark = pytest.mark.browser

# Keeps the packs that arrive until `deliver` hands them on, the newest first.
HOLD_PACKS = """
const held = [];
let keep = null;
Object.defineProperty(window, "promptlabPack", {
  set: (take) => (keep = take),
  get: () => (number, pack) => held.push([number, pack]),
});
window.numHeld = () => held.length;
window.deliver = () => {
  const packs = held.splice(0).sort((a, b) => b[0] - a[0]);
  for (const [number, pack] of packs) keep(number, pack);
};
"""
TO_THE_END = "document.getElementById('scroller').scrollTop = 1e9"
IS_AT_THE_END = (
    "[...document.querySelectorAll('.row .label')].some((n) => n.textContent === 'subject 199')"
)


def pictures(page) -> dict[str, str]:
    """Return the picture in each slot, by what the slot is called."""
    return dict(
        page.page.eval_on_selector_all(
            ".slot:not([hidden])",
            "nodes => nodes.map(n => [n.getAttribute('aria-label'), n.querySelector('img').src])",
        )
    )


@pytest.mark.slow
def test_a_reused_slot_shows_its_new_image_however_late_the_old_one_arrives(browse, tmp_path):
    root = make_run(
        tmp_path / "run",
        subjects=[f"subject {i:03}" for i in range(200)],
        styles=["noto", "openmoji"],
        num_seeds=1,
        model=PaintModel(size=16),
    )
    index = write_contact_sheet(root, ReportOptions(single_file_mb=0, png=False)).index_html
    usual = browse().open(index).settle()
    usual.page.evaluate(TO_THE_END)
    usual.wait(IS_AT_THE_END)
    expected = pictures(usual.settle())

    late = browse()
    late.page.add_init_script(HOLD_PACKS)
    late.open(index)
    late.wait("numHeld() > 0")
    late.page.evaluate(TO_THE_END)
    late.wait(IS_AT_THE_END)
    late.page.wait_for_timeout(500)
    assert late.page.evaluate("numHeld()") > 1
    late.page.evaluate("deliver()")
    late.settle()
    shown = pictures(late)
    assert shown.keys() == expected.keys()
    assert shown == expected
    assert len(set(shown.values())) == len(shown) > 4
