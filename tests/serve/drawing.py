"""A run that a test draws image by image, and a server of its pages."""

import contextlib
import json
import socket
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import uvicorn

from promptlab.errors import PromptlabError
from promptlab.finishing import finish
from promptlab.identity import canonical_json
from promptlab.paths import RunPaths
from promptlab.records import Numerics, Result
from promptlab.run_record import RunRecord
from promptlab.serve import acts, live, pages, verdicts
from promptlab.serve.access import Access, TokenFile
from promptlab.serve.app import make_app
from promptlab.serve.queue import Queue
from promptlab.serve.server import Server
from promptlab.store import StoreOptions, open_store
from tests.painters import PaintModel
from tests.report.runs import make_plan, paint


class Drawing:
    """A run folder whose images are drawn when the test says so."""

    def __init__(self, root, queue=None, **plan):
        self.root = str(root)
        self.model = PaintModel(size=48)
        self.plan = make_plan(model=self.model, **plan)
        self._stack = contextlib.ExitStack()
        record = RunRecord(argv=("seeds=2",))
        opened = open_store(
            RunPaths(self.root), self.plan, StoreOptions(reuse=False), record=record
        )
        self.store = self._stack.enter_context(opened)
        self.pending = list(self.store.pending(self.model.name))
        if queue is not None:
            self.queue_up(queue)

    def queue_up(self, queue):
        """Be an entry of the queue that is being drawn."""
        rows = Path(f"{self.root}.rows")
        rows.write_text("".join(json.dumps(row) + "\n" for row in self.rows()))
        queue.add(["seeds=2"], num_images=len(self.pending))
        lease, _ = queue.claim("test", 3600)
        queue.note(lease, run_folder=self.root, rows=str(rows), num_pending=len(self.pending))

    def rows(self):
        """The plan's rows as the file of an entry has them."""
        (planned,) = self.plan.models.values()
        for cell, request in self.plan.requests(self.model.name):
            columns = {k: v for k, v in asdict(cell).items() if k not in ("seeds", "source")}
            yield {
                **columns,
                **cell.axes,
                "image_id": request.image_id,
                "seed": request.seed,
                "sweep": self.plan.sweep,
                "params": canonical_json(cell.params),
                "model_fingerprint": planned.model.fingerprint,
            }

    def draw(self, count, fails_on=""):
        """Draw the next images of the plan."""
        for request in self.pending[:count]:
            if fails_on and fails_on in request.prompt:
                result = Result(request, error="ValueError: it cannot be painted")
            else:
                pixels = paint(request, self.model.size)
                result = Result(request, pixels, seconds=0.1, batch_size=count)
            self.store.add(finish(result, Numerics(self.model.device, self.model.dtype)))
        del self.pending[:count]
        self.store.flush()

    def close(self):
        self._stack.close()


@dataclass
class Plan:
    """What a planner says of any line: two subjects of two seeds."""

    num_images: int = 4
    num_cells: int = 2
    num_pending: int = 3
    prompts: tuple[str, ...] = ("a fox", "a robot")
    summary: str = "2 cells × 2 seeds"


class Planner:
    """Plans all lines alike but those with the word `unplannable`: a real plan takes a process."""

    def plan(self, argv, timeout_s=30.0):
        if any("unplannable" in argument for argument in argv):
            raise PromptlabError("Unknown word `unplannable`: expected another.")
        return Plan()


class ClosingServer(uvicorn.Server):
    """Ends its streams before it stops."""

    async def shutdown(self, sockets=None):
        await self.shared.close()
        await super().shutdown(sockets)


@dataclass
class Site:
    """A running server of a folder of runs."""

    runs_dir: Path
    planner: object = field(default_factory=Planner)
    port: int = 0

    def __post_init__(self):
        self.runs_dir.mkdir(exist_ok=True)
        self.queue = Queue(self.runs_dir / ".serve" / "queue.sqlite")
        self.tokens = TokenFile(self.runs_dir / ".serve" / "access.json")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", self.port))
            self.port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"

    def routes(self, server):
        rooms = (pages, live, verdicts, acts)
        return [route for room in rooms for route in room.routes(server)]

    def start(self):
        server = Server(str(self.runs_dir), self.queue, self.planner, Access(self.tokens))
        config = uvicorn.Config(
            make_app(server, self.routes(server)),
            port=self.port,
            log_level="warning",
            timeout_graceful_shutdown=1,
        )
        self._uvicorn = ClosingServer(config)
        self._uvicorn.shared = server
        self._uvicorn.install_signal_handlers = lambda: None
        self._thread = threading.Thread(target=self._uvicorn.run, daemon=True)
        self._thread.start()
        give_up_at = time.monotonic() + 30
        while not self._uvicorn.started:
            assert time.monotonic() < give_up_at, "the server does not start"
            time.sleep(0.02)
        return self

    def stop(self):
        self._uvicorn.should_exit = True
        self._thread.join(20)
