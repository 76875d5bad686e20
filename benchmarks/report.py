"""The contact sheet at size: how long it takes to build, to open, to turn and to scroll.

    python -m benchmarks.report                       10,000 images of 256 px: about 5 minutes
    python -m benchmarks.report --images 50000 --px 128
    python -m benchmarks.report --folder /tmp/runs    keep the runs there for the next time

Writes a real run of painted pictures with grain (their thumbnails are as large as a photograph's)
through the store, builds its page in a fresh process twice (nothing kept; thumbnails kept), and
opens it from disk in Debian's Chromium, headless, without a GPU.

Prints a table, then one line of JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.painters import PaintModel
from tests.report.runs import make_run

GRAIN = 12.0  # thumbnails of about 4 KB
NUM_STYLES = 25
NUM_SEEDS = 8
VIEWPORT = (1440, 900)  # px
BUILD = """
import json, resource, sys, time
from promptlab.report import ReportOptions, write_contact_sheet
if __name__ == "__main__":
    start = time.perf_counter()
    files = write_contact_sheet(sys.argv[1], ReportOptions())
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(json.dumps({
        "seconds": time.perf_counter() - start,
        "cpu_seconds": sum(u.ru_utime + u.ru_stime for u in (own, children)),
        "memory_mb": own.ru_maxrss / 1024,
        "index": files.index_html,
    }))
"""
IS_SHOWN = """() => {
  const shown = [...document.querySelectorAll('.slot img')].filter((img) => {
    const box = img.getBoundingClientRect();
    return box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
  });
  return shown.length > 0 && shown.every((img) => !img.hidden);
}"""
# Half a screen a frame: as fast as a person throws a page. A frame is blank when most pictures in
# it are still missing; until they load, each place shows its picture's mean color.
SCROLL = """async (numSteps) => {
  const scroller = document.getElementById('scroller');
  const frame = () => new Promise((done) => requestAnimationFrame(() => done(performance.now())));
  const visible = () => [...document.querySelectorAll('.slot')].filter((slot) => {
    const box = slot.getBoundingClientRect();
    return box.bottom > 80 && box.top < innerHeight && box.left < innerWidth && box.right > 0;
  });
  const frames = [];
  let last = await frame();
  let blankSince = null;
  let longestBlank = 0;
  let live = 0;
  const step = scroller.clientHeight / 2;
  const end = Math.min(scroller.scrollHeight - scroller.clientHeight, numSteps * step);
  for (let y = 0; y <= end; y += step) {
    scroller.scrollTop = y;
    const now = await frame();
    frames.push(now - last);
    last = now;
    live = Math.max(live, promptlabGrid.numLive());
    const slots = visible();
    const missing = slots.filter((slot) => slot.querySelector('img').hidden).length;
    if (slots.length === 0 || missing > slots.length / 2) {
      if (blankSince === null) blankSince = now;
      longestBlank = Math.max(longestBlank, now - blankSince);
    } else blankSince = null;
  }
  const start = performance.now();
  while (visible().some((slot) => slot.querySelector('img').hidden)) await frame();
  frames.sort((a, b) => a - b);
  return { frames: frames.length, median_ms: frames[frames.length >> 1],
    p95_ms: frames[Math.floor(frames.length * 0.95)], longest_ms: frames.at(-1),
    longest_blank_ms: longestBlank, settled_ms: performance.now() - start, live_nodes: live };
}"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--px", type=int, default=256, help="side of an image")
    parser.add_argument("--folder", help="keep the runs here")
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = args.folder or stack.enter_context(tempfile.TemporaryDirectory())
        run = ensure_run(Path(folder) / f"report_{args.images}_{args.px}", args.images, args.px)
        shutil.rmtree(Path(run, ".thumbnails"), ignore_errors=True)
        cold = build(run)
        warm = build(run)
        seen = browse(Path(cold["index"]))
    figures = {"images": args.images, "px": args.px, "cold": cold, "warm": warm, **seen}
    figures["machine"] = f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores"
    figures["load"] = os.getloadavg()[0]
    print_table(figures)
    print(json.dumps(figures))


def ensure_run(folder: Path, num_images: int, px: int) -> str:
    """Return a run of this many images, drawn unless it exists."""
    if (folder / "sweep.yaml").is_file():
        return str(folder)
    start = time.perf_counter()
    run = make_run(
        folder,
        subjects=[f"subject number {i}" for i in range(num_images // (NUM_STYLES * NUM_SEEDS))],
        styles=[f"style {i}" for i in range(NUM_STYLES)],
        num_seeds=NUM_SEEDS,
        model=PaintModel(size=px),
        embed_images=False,
        grain=GRAIN,
    )
    print(f"painted {num_images} images in {time.perf_counter() - start:.0f} s", file=sys.stderr)
    return run


def build(run: str) -> dict[str, Any]:
    """Build the page in a process of its own; return its times."""
    program = Path(run, "build_page.py")  # a file: spawned workers import the main module
    program.write_text(BUILD)
    done = subprocess.run(
        [sys.executable, str(program), run], check=True, capture_output=True, text=True
    )
    program.unlink()
    figures = json.loads(done.stdout)
    files = [Path(figures["index"]), *Path(run, "sheet").glob("*.js")]
    figures["page_mb"] = sum(file.stat().st_size for file in files) / 2**20
    figures["num_files"] = len(files)
    return figures


@contextlib.contextmanager
def open_browser() -> Iterator[Any]:
    """Give a page of a headless Chromium."""
    from playwright.sync_api import ViewportSize, sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"],
        )
        viewport = ViewportSize(width=VIEWPORT[0], height=VIEWPORT[1])
        yield browser.new_context(viewport=viewport).new_page()
        browser.close()


def browse(index: Path) -> dict[str, Any]:
    """Open, turn and scroll the page; return what a person would feel."""
    figures: dict[str, Any] = {}
    with open_browser() as page:
        page.goto("about:blank")
        metrics = page.context.new_cdp_session(page)
        metrics.send("Performance.enable", {"timeDomain": "threadTicks"})
        start = time.perf_counter()
        page.goto(index.resolve().as_uri(), wait_until="commit")
        wait_for(page, "document.documentElement.dataset.ready === '1'")
        figures["open_seconds"] = time.perf_counter() - start
        wait_for(page, IS_SHOWN)
        figures["pictures_seconds"] = time.perf_counter() - start
        values = {m["name"]: m["value"] for m in metrics.send("Performance.getMetrics")["metrics"]}
        figures["open_cpu_seconds"] = values["TaskDuration"]
        figures["heap_mb"] = values["JSHeapUsedSize"] / 2**20
        figures["live_nodes"] = page.evaluate("promptlabGrid.numLive()")
        figures["rows_by_seed_seconds"] = turn(page, "seed")
        figures["rows_by_subject_seconds"] = turn(page, "subject")
        page.evaluate("location.hash = 'rows=subject,style&cols=seed'")  # the longest page
        wait_for(page, IS_SHOWN)
        figures["scroll"] = page.evaluate(SCROLL, 240)
    return figures


def wait_for(page: Any, expression: str) -> None:
    """Ask every 20 ms; Playwright's own waiting evaluates text, which the page's policy forbids."""
    while not page.evaluate(expression):
        time.sleep(0.02)


def turn(page: Any, axis: str) -> float:
    """Show another axis in the rows; return the seconds until it stands."""
    start = time.perf_counter()
    page.select_option('select[aria-label="Rows"]', axis)
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return time.perf_counter() - start


def print_table(figures: dict[str, Any]) -> None:
    """Print the figures for people."""
    cold, warm, scroll = figures["cold"], figures["warm"], figures["scroll"]
    lines = {
        "images": f"{figures['images']:,} of {figures['px']} px",
        "machine": f"{figures['machine']}, load {figures['load']:.1f}",
        "built": f"{cold['seconds']:.1f} s ({cold['cpu_seconds']:.1f} s of CPU)",
        "built again, thumbnails kept": f"{warm['seconds']:.1f} s",
        "memory": f"{cold['memory_mb']:.0f} MB",
        "page": f"{cold['page_mb']:.1f} MB in {cold['num_files']} files",
        "opened": f"{figures['open_seconds']:.2f} s ({figures['open_cpu_seconds']:.2f} s of CPU)",
        "all pictures in view": f"{figures['pictures_seconds']:.2f} s",
        "live elements": f"{figures['live_nodes']}",
        "rows turned to seed, back": f"{figures['rows_by_seed_seconds']:.2f} s, "
        f"{figures['rows_by_subject_seconds']:.2f} s",
        "scrolling, half a screen a frame": f"{scroll['median_ms']:.0f} ms a frame, "
        f"95 % within {scroll['p95_ms']:.0f} ms",
        "longest blank stretch": f"{scroll['longest_blank_ms']:.0f} ms",
        "most live elements": f"{scroll['live_nodes']}",
    }
    width = max(map(len, lines))
    for name, value in lines.items():
        print(f"{name:<{width}}  {value}")


if __name__ == "__main__":
    main()
