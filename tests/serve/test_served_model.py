"""Images drawn over HTTP, through our own server, are those drawn directly."""

from __future__ import annotations

import hashlib
import io

import numpy as np
from PIL import Image

CLIENT = """\
# @package _global_
# A local model behind our own server.
model:
  _target_: promptlab.models.http.open_openai
  base_url: {address}v1
  model: paint
  name: served
  key_variable: SERVED_KEY
  extra: {{seed: seed, temperature: temperature}}
  constants: {{response_format: b64_json}}
  is_deterministic: true
  price: 0
  concurrency: 2
temperature: null
"""


def pixels(png: bytes) -> str:
    return hashlib.sha256(np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))).hexdigest()


def test_a_model_drawn_over_http_gives_the_pixels_that_it_gives_directly(
    project, live_server, monkeypatch
):
    monkeypatch.setenv("SERVED_KEY", "any")
    project.write("conf/model/served.yaml", CLIENT.format(address=live_server.address))
    grid = ("-m", "subject=a fox,'a {red|blue} rose, 16:9'", "style=noto")
    over_http = project.run("sweep", *grid, "model=served")
    assert over_http.code == 0, over_http.err
    directly = project.run("sweep", *grid)
    assert directly.code == 0, directly.err
    served, own = (
        {
            (row["prompt"], row["seed"]): pixels((run / row["path"]).read_bytes())
            for row in project.rows(run)
        }
        for run in project.runs
    )
    assert len(own) == 3
    assert served == own
    checked = project.run("verify", str(project.runs[0]))
    assert checked.code == 0, checked.out + checked.err
