"""An enlarged image stands in the place of the one that it enlarges, and every arrow is a link."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from promptlab.report import ReportOptions, write_contact_sheet
from promptlab.report.building import Builder
from promptlab.report.data import collect
from promptlab.report.relatives import find_relatives
from promptlab.store import read_run
from tests.conftest import PAINT, Project

SWEEP = ("-m", "subject=a fox,a robot", "style=noto", "seeds=2", "upscale=lanczos")


@pytest.fixture
def drawn(project: Project) -> Project:
    """A project with a run of four images, each enlarged."""
    text = PAINT.replace("PaintModel", "OverpaintModel").format(name="paint")
    project.write("conf/model/paint.yaml", text)
    assert project.run("sweep", *SWEEP).code == 0
    return project


def test_enlarged_images_have_no_rows_of_their_own_and_stand_at_their_parents(drawn: Project):
    run = read_run(str(drawn.runs[0]))
    data = collect([run])
    assert (data.num_rows, data.num_images) == (4, 8)
    source_of = {row["image_id"]: row["source_id"] for row in run.rows()}
    for image in data.image_of_row:
        enlarged = data.enlarged[image]
        assert source_of[data.image_ids[enlarged]] == data.image_ids[image]
    assert [axis.name for axis in data.axes if len(axis.values) > 1] == ["subject", "seed"]


def test_pictures_show_the_enlarged_image(drawn: Project):
    from promptlab.report.tables import PictureSource

    run = read_run(str(drawn.runs[0]))
    builder = Builder([run], ReportOptions())
    source = PictureSource(builder.data, builder.thumbnails, [run])
    enlarged = builder.data.enlarged[builder.data.image_of_row[0]]
    png = run.image_bytes(builder.data.image_ids[enlarged])
    assert png is not None
    truth = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), np.int16)
    shown = source.picture(0, 128)
    assert shown is not None
    assert np.abs(np.asarray(shown, np.int16) - truth).mean() < 8


def test_upscalers_are_compared_where_an_image_has_several(drawn: Project):
    parent = collect([read_run(str(drawn.runs[0]))]).image_ids[0]
    assert drawn.run("upscale", parent, "scale=2", "--model", "lanczos", "tracking=null").code == 0
    data = collect([read_run(str(run)) for run in drawn.runs])
    assert (data.num_rows, data.num_images) == (5, 9)


def test_a_run_of_enlarged_images_alone_shows_them_as_rows(drawn: Project):
    command = ("upscale", str(drawn.runs[0]), "scale=2", "--model", "lanczos", "tracking=null")
    assert drawn.run(*command).code == 0
    data = collect([read_run(str(drawn.runs[1]))])
    assert data.num_rows == data.num_images == 4
    assert (data.enlarged == -1).all()


def test_pages_of_two_runs_link_parents_and_descendants(drawn: Project):
    parent = read_run(str(drawn.runs[0])).rows()[0]
    assert drawn.run("vary", parent["image_id"], "seeds=2", "tracking=null").code == 0
    children = [row["image_id"] for row in drawn.rows()]
    above, below = (read_run(str(run)) for run in drawn.runs)
    down = find_relatives(collect([above]), [above], drawn.runs[0])
    assert {*down.offspring[parent["image_id"]]} == {*children}
    up = find_relatives(collect([below]), [below], drawn.runs[1])
    assert up.links.keys() == {parent["image_id"]}
    for links, folder in ((down.links, drawn.runs[0]), (up.links, drawn.runs[1])):
        for link in links.values():
            assert (folder / link["image"]).exists()
            assert (folder / link["page"].partition("#")[0]).exists()
    # The parent's page was built again when its variations were drawn.
    assert children[0] in (drawn.runs[0] / "index.html").read_text()


def test_the_page_flips_between_the_enlarged_image_and_the_one_drawn(browse, drawn: Project):
    assert drawn.run("vary", drawn.rows()[0]["image_id"], "seeds=1", "tracking=null").code == 0
    page = (
        browse()
        .open(write_contact_sheet(str(drawn.runs[0]), ReportOptions(png=False)).index_html)
        .settle()
        .focus_grid()
    )
    assert page.page.get_by_role("button", name="Enlarged images in the place").is_visible()
    page.keys("Enter")
    large = "document.querySelector('.lightbox .pane img').naturalWidth"
    page.wait(f"{large} === 128")
    page.keys("e")
    page.wait(f"{large} === 32")
    assert "enlarged=0" in page.settle().page.url
    page.keys("e")
    page.wait(f"{large} === 128")
    facts = dict(zip(page.texts(".details dt"), page.texts(".details dd"), strict=True))
    (child,) = page.texts(".lineage code")
    page.page.keyboard.press("Escape")
    below = browse().open(drawn.runs[1] / "index.html").focus_grid()
    below.keys("Enter")
    assert below.texts(".details h3")[0] == "Descends from"
    assert below.texts(".lineage code") == [facts["image id"]]
    assert (
        dict(zip(below.texts(".details dt"), below.texts(".details dd"), strict=True))["image id"]
        == child
    )
