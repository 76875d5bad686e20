"""A served sheet of a run folder that others wrote: it hands out that folder's images alone."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from promptlab.paths import RunPaths
from promptlab.report.served import ServedSheet
from tests.report.runs import make_run

SECRET = b"the owner's secret"


@pytest.mark.parametrize(
    "path",
    ["images/../../secret.png", "images/x/../../../secret.png", "../secret.png", "images/..", "/s"],
)
def test_a_path_that_leads_out_of_the_run_folder_is_not_followed(tmp_path, path):
    (tmp_path / "secret.png").write_bytes(SECRET)
    root = make_run(tmp_path / "foxes", subjects=["a fox"], styles=["noto"], embed_images=False)
    part = RunPaths(root).part(0)
    table = pq.read_table(part)
    images = table["image"].to_pylist()
    whole, images[0]["path"] = images[1]["path"], path
    field = table.schema.field("image")
    forged = table.drop_columns("image").append_column(field, pa.array(images, field.type))
    pq.write_table(forged, part)
    sheet = ServedSheet(root)
    first, second = table["image_id"].to_pylist()
    assert sheet.png(first) is None
    assert sheet.png(second) == (tmp_path / "foxes" / whole).read_bytes()
