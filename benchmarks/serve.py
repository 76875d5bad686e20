"""What an audience costs: phones watch and rate a run while it is drawn, against nobody looking.

    python -m benchmarks.serve                 200 phones, three runs of each: about four minutes
    python -m benchmarks.serve --phones 50     fewer

The model sleeps and hands out ready pictures, so it stands for a GPU; server, store and phones
share the processor. Each phone opens the run's page and its data, follows its events, and every
few seconds asks for a thumbnail and the queue, and rates an image. Runs with and without phones
alternate. Prints a table, then one line of JSON; ends with 1 if a rating is lost.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.workers import DELAY
from promptlab.machine import cpu_name, usable_cores
from promptlab.serve.access import ACCESS_PATH, TokenFile
from promptlab.serve.queue import QUEUE_PATH, Queue
from promptlab.store import read_run
from promptlab.verdicts.picks import read_picks

DELAY_S = 0.02  # of an image on the sleeping device
PAUSE_S = 4.0  # between two acts of a phone
WARM_S = 3.0  # of a run, left out of its speed: pages are opened meanwhile
MODEL = "model:\n  _target_: benchmarks.workers.SleepingModel\n"


@dataclass
class Seen:
    """What the phones have done."""

    latencies_s: list[float] = field(default_factory=list)  # of ratings
    num_requests: int = 0
    num_events: int = 0
    rated: dict[tuple[str, str], int] = field(default_factory=dict)  # (who, image_id) -> rating
    refused: list[str] = field(default_factory=list)


class Line:
    """One connection of a phone, kept open."""

    def __init__(self, port: int, token: str, seen: Seen) -> None:
        self._port, self._token, self._seen = port, token, seen
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: Any = None) -> bytes:
        """Return the body of an answer; raises OSError for one that is not 200."""
        reader, length = await self._send(method, path, body)
        self._seen.num_requests += 1
        return await reader.readexactly(length)

    async def follow(self, path: str) -> AsyncIterator[bytes]:
        """Yield the lines of an event stream."""
        reader, _ = await self._send("GET", path, None)
        while line := await reader.readline():
            yield line

    async def _send(self, method: str, path: str, body: Any) -> tuple[asyncio.StreamReader, int]:
        is_new = self._streams is None
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=2**24)
        reader, writer = self._streams
        data = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n"
            f"Authorization: Bearer {self._token}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(data)}\r\n\r\n"
        )
        writer.write(head.encode() + data)
        try:
            answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except (asyncio.IncompleteReadError, ConnectionError):  # it was idle for too long
            if is_new:
                raise
            self.close()
            return await self._send(method, path, body)
        status = answer.split(" ", 2)[1]
        found = re.search(r"(?i)\r\ncontent-length: (\d+)", answer)
        if status != "200":
            text = await reader.readexactly(int(found[1]) if found else 0)
            raise OSError(f"{method} {path}: {status} {text[:200]!r}")
        return reader, int(found[1]) if found else 0

    def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def hold_phone(number: int, port: int, token: str, run: str, seen: Seen) -> None:
    """Be one phone until it is cancelled."""
    who, chance = f"friend {number}", random.Random(number)
    await asyncio.sleep(chance.uniform(0, WARM_S))
    line, stream = Line(port, token, seen), Line(port, token, seen)
    follower: asyncio.Task[None] | None = None
    try:
        await line.ask("GET", f"/runs/{run}/")
        sheet = (await line.ask("GET", f"/runs/{run}/sheet.js")).decode()
        found = re.search(r"events\?sheet=\w+&from=\d+", sheet.replace("\\u0026", "&"))
        assert found is not None, sheet[:300]
        follower = asyncio.create_task(_follow(stream, f"/runs/{run}/{found[0]}", seen))
        version = ""
        while True:
            await asyncio.sleep(PAUSE_S * chance.uniform(0.5, 1.5))
            newest = json.loads(await line.ask("GET", f"/runs/{run}/newest"))["image_ids"]
            await line.ask("GET", "/api/queue")
            if newest:
                image_id, rating = chance.choice(newest), chance.randint(1, 5)
                await line.ask("GET", f"/runs/{run}/thumbnails/{image_id}.webp")
                version = await _rate(line, run, who, image_id, rating, version, seen)
    finally:
        if follower is not None:
            follower.cancel()
        line.close()
        stream.close()


async def _follow(stream: Line, path: str, seen: Seen) -> None:
    async for line in stream.follow(path):
        seen.num_events += line.startswith(b"event:")


async def _rate(
    line: Line, run: str, who: str, image_id: str, rating: int, version: str, seen: Seen
) -> str:
    """Rate an image as the page does; return the version of the verdicts that the phone knows."""
    now = datetime.now(UTC).isoformat()
    pick = {"image_id": image_id, "rating": rating, "who": who, "picked_at": now}
    body = {"picks": [pick], "who": who, "version": version, "sent_at": now}
    start = time.perf_counter()
    answer = json.loads(await asyncio.shield(line.ask("POST", f"/runs/{run}/picks", body)))
    seen.latencies_s.append(time.perf_counter() - start)
    if answer["num_kept"] == 1:
        seen.rated[who, image_id] = rating
    seen.refused += answer["refused"]
    return str(answer["version"])


@contextlib.contextmanager
def served(folder: Path) -> Iterator[int]:
    """Run `promptlab serve` in a folder; give its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    env = {**os.environ, "PYTHONPATH": str(Path.cwd()), DELAY: str(DELAY_S)}
    command = [sys.executable, "-m", "promptlab.cli", "serve", "--port", str(port)]
    with subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()  # it says where it is
            yield port
        finally:
            process.terminate()


async def draw(
    queue: Queue, folder: Path, port: int, token: str, num_phones: int, num_images: int, name: str
) -> Any:
    """Draw one run, watched by some phones; return its images/s and what the phones did."""
    argv = ("model=sleeping", "subject=a fox", f"name={name}", "tracking=null", "reuse=false")
    entry_id = queue.add((*argv, f"seeds={num_images}"), num_images=num_images).entry_id
    seen, phones = Seen(), list[asyncio.Task[None]]()
    while (entry := queue.get(entry_id)) is not None and entry.ended_at is None:
        if entry.num_drawn and not phones and num_phones:
            run = Path(entry.run_folder or "").name
            phones = [
                asyncio.create_task(hold_phone(number, port, token, run, seen))
                for number in range(num_phones)
            ]
        broken = [phone for phone in phones if phone.done()]
        for phone in broken:
            phone.result()  # raises what ended it
        is_drawn = entry.num_drawn >= num_images
        if is_drawn:
            break
        await asyncio.sleep(0.25)
    for phone in phones:
        phone.cancel()
    await asyncio.gather(*phones, return_exceptions=True)
    while (entry := queue.get(entry_id)) is not None and entry.ended_at is None:
        await asyncio.sleep(0.25)
    assert entry is not None, entry_id
    assert entry.status == "done", entry
    root = str(folder / (entry.run_folder or ""))
    times = sorted(row["created_at"].timestamp() for row in read_run(root).rows(["created_at"]))
    warm = [moment for moment in times if moment >= times[0] + WARM_S]
    return (len(warm) - 1) / (warm[-1] - warm[0]), seen, root


def count_lost(root: str, seen: Seen) -> int:
    """Return how many ratings that the server acknowledged are not on disk."""
    kept = {
        (pick.who.removesuffix(" (friends)"), pick.image_id): pick.rating
        for pick in read_picks(root)
    }
    return sum(kept.get(key) != rating for key, rating in seen.rated.items())


def main() -> int:
    """Alternate runs with and without phones."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--phones", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--images", type=int, default=1000, help="of a run (default: 1000)")
    args = parser.parse_args()
    alone: list[float] = []
    watched: list[float] = []
    latencies: list[float] = []
    num_lost = num_ratings = num_requests = num_events = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "conf/model").mkdir(parents=True)
        (folder / "conf/model/sleeping.yaml").write_text(f"# @package _global_\n{MODEL}")
        queue = Queue(folder / "runs" / QUEUE_PATH)
        token = TokenFile(folder / "runs" / ACCESS_PATH).add("rate", "friends")
        with served(folder) as port:
            for repeat in range(args.repeats):
                speed, _, _ = asyncio.run(
                    draw(queue, folder, port, token, 0, args.images, f"alone{repeat}")
                )
                alone.append(speed)
                speed, seen, root = asyncio.run(
                    draw(queue, folder, port, token, args.phones, args.images, f"watched{repeat}")
                )
                watched.append(speed)
                latencies += seen.latencies_s
                num_lost += count_lost(root, seen)
                num_ratings += len(seen.latencies_s)
                num_requests += seen.num_requests
                num_events += seen.num_events
                assert not seen.refused, seen.refused[:3]
        queue.close()
    share = sum(watched) / sum(alone)
    latencies.sort()
    p50, p95 = (1000 * latencies[int(len(latencies) * part)] for part in (0.5, 0.95))
    print(f"{cpu_name()}, {usable_cores()} cores; {args.phones} phones, {args.repeats} runs each")
    print(f"{'images/s, nobody looks':<34}{sum(alone) / len(alone):10.2f}")
    print(f"{'images/s, phones watch and rate':<34}{sum(watched) / len(watched):10.2f}")
    print(f"{'share':<34}{share:10.1%}")
    print(f"{'ratings, lost':<34}{num_ratings:7,}, {num_lost}")
    print(f"{'a rating is kept after, ms':<34}{p50:7.0f} (95 %: {p95:.0f})")
    print(f"{'requests, events':<34}{num_requests:7,}, {num_events:,}")
    print(
        json.dumps(
            {
                "processor": cpu_name(),
                "cores": usable_cores(),
                "python": platform.python_version(),
                "phones": args.phones,
                "alone_images_s": alone,
                "watched_images_s": watched,
                "share": share,
                "ratings": num_ratings,
                "lost": num_lost,
                "rating_ms": [p50, p95],
                "requests": num_requests,
            }
        )
    )
    return int(num_lost > 0)


if __name__ == "__main__":
    sys.exit(main())
