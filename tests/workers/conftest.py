"""Work for workers, and what they made of it."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from promptlab.engine import draw_all
from promptlab.finishing import finish
from promptlab.models.registry import open_model
from promptlab.planning.plan import PlannedModel
from promptlab.planning.requests import make_request
from promptlab.records import Drawn
from promptlab.workers.blocks import Blocks, Work
from promptlab.workers.dispatch import Dispatcher
from promptlab.workers.host import Host
from promptlab.workers.options import WorkerOptions


def make_work(
    prompts: Sequence[str] | int = 20, target: str = "tests.painters.PaintModel", **node: Any
) -> Work:
    """Return requests of a model that is named by its config."""
    config = {"_target_": target, **node}
    planned = PlannedModel.of(open_model(config), node=config)
    model, numerics = planned.model, planned.numerics
    params = {name: p.default for name, p in model.parameters.items()}
    texts = [f"prompt {n}" for n in range(prompts)] if isinstance(prompts, int) else prompts
    return Work(planned, [make_request(model, numerics, text, 0, params) for text in texts])


def pixels_alone(work: Work) -> dict[str, str | None]:
    """Return the hash of each image's pixels, drawn in this process."""
    drawn = [
        finish(result, work.planned.numerics)
        for result in draw_all(work.planned.model, work.requests)
    ]
    return {image.request.image_id: image.facts.sha256 for image in drawn}


@dataclass
class Drawing:
    """What workers delivered."""

    images: list[Drawn] = field(default_factory=list)
    by_worker: Counter[str] = field(default_factory=Counter)
    restarts: Counter[str] = field(default_factory=Counter)

    def deliver(self, drawn: Drawn, worker: str) -> None:
        """Take an image."""
        self.images.append(drawn)
        self.by_worker[worker] += 1

    @property
    def pixels(self) -> dict[str, str | None]:
        """The hash of each image's pixels; each image came once."""
        found = {image.request.image_id: image.facts.sha256 for image in self.images}
        assert len(found) == len(self.images)
        return found

    @property
    def errors(self) -> dict[str, str]:
        """Why images failed, by their prompt."""
        return {d.request.prompt: d.facts.error or "" for d in self.images if d.body is None}


def draw_with(hosts: Sequence[Host], *works: Work, **options: Any) -> Drawing:
    """Draw work with the workers of some hosts."""
    drawing = Drawing()
    dispatcher = Dispatcher(hosts, Blocks(works), drawing.deliver, WorkerOptions(**options))
    drawing.restarts = dispatcher.restarts
    dispatcher.run()
    return drawing


@pytest.fixture(autouse=True)
def _few_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """Run Ray in this process's name, as small as it gets."""
    ray = pytest.importorskip("ray", reason="Ray is missing: pip install 'promptlab[ray]'")
    folder = tempfile.mkdtemp(prefix="r", dir="/tmp")  # Ray's sockets want a short path
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("OMP_NUM_THREADS", "1")
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=80 * 2**20,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=folder,
        )
        yield
        ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)
