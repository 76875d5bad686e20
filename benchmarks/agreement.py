"""How far scores and taste agree with picks that were made by eye on the demo.

Takes a run of the demo; gives its images the verdicts of tests/scores/data/demo_picks.json, made
before any score was seen: in each of 60 cells the best of four seeds is a pick. Prints each score's
agreement, and taste's on cells that were left out. Images that this machine draws otherwise have
another id and are left out.

    promptlab sweep +sweeps=subject_x_style tracking=null
    python -m benchmarks.agreement RUN
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from promptlab.scores.registry import MATCHED, MEASURED, open_embedder, open_scorers
from promptlab.scores.scoring import score_run
from promptlab.scores.summary import summarize
from promptlab.scores.taste import fit_taste
from promptlab.store import read_run
from promptlab.verdicts.picks import Pick, record_picks

PICKS = Path(__file__).parents[1] / "tests" / "scores" / "data" / "demo_picks.json"
VERDICTS: dict[str, dict[str, Any]] = {
    "pick": {"rating": 4},
    "other": {"rating": 2},
    "reject": {"is_reject": True},
}


def give_picks(root: str) -> int:
    """Give the images of a run their verdicts; return how many there are."""
    ids = set(read_run(root).table(["image_id"])["image_id"].to_pylist())
    known = [pick for pick in json.loads(PICKS.read_text("utf-8")) if pick["image_id"] in ids]
    record_picks(root, [Pick(pick["image_id"], **VERDICTS[pick["verdict"]]) for pick in known])
    return len(known)


def main() -> None:
    """Read the command line and print a table, then JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    root = parser.parse_args().run
    print(f"{give_picks(root)} judged images\n")
    score_run(root, open_scorers([*MATCHED, *MEASURED, "blank"]))
    found: dict[str, dict[str, Any]] = {}
    for row in summarize(read_run(root)):
        if row.measure in ("auc", "auc_in_cells", "tau"):
            found.setdefault(row.scorer, {})[row.measure] = (row.estimate, row.low, row.high)
    for name in ("tiny", "measures"):
        taste = fit_taste([root], open_embedder(name), name)
        found[f"taste on {name}"] = {"auc": (taste.auc, taste.auc_low, taste.auc_high)}
    print("| score | AUC | AUC in cells | Kendall's tau |\n|---|---|---|---|")
    for name, measures in found.items():
        cells = [_text(measures.get(key)) for key in ("auc", "auc_in_cells", "tau")]
        print(f"| `{name}` | {' | '.join(cells)} |")
    print(json.dumps(found))


def _text(numbers: tuple[float, float, float] | None) -> str:
    if numbers is None:
        return ""
    value, low, high = numbers
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
