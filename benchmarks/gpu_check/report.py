"""The last page: what holds, what does not, what to do next, in under 12,000 characters.

Takes what the stages found, returns text. Knows nothing of devices.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOST_CHARACTERS = 12_000
ORDER = {"FAIL": 0, "LOST": 1, "SLOW": 2, "PASS": 3}


def write_report(stages: Mapping[str, Mapping[str, Any]], command: str) -> str:
    """Return the page; `stages` holds each stage's findings, its seconds and perhaps its error."""
    facts = stages.get("facts", {}).get("numbers", {})
    lines = [f"gpu_check on {facts.get('device', 'an unknown device')}, {_facts(facts)}", ""]
    verdicts = [
        {**verdict, "stage": name}
        for name, stage in stages.items()
        for verdict in stage.get("verdicts", [])
    ]
    verdicts += [
        {"status": "LOST", "question": f"stage {name}", "number": stage["error"],
         "limit": "ends by itself", "where": f"benchmarks/gpu_check/{name}", "stage": name}
        for name, stage in stages.items()
        if stage.get("error")
    ]  # fmt: skip
    verdicts.sort(key=lambda verdict: ORDER[verdict["status"]])
    for verdict in verdicts:
        lines.append(
            f"{verdict['status']:4} {verdict['question']}: {verdict['number']} "
            f"(limit: {verdict['limit']}) {verdict['where']}"
        )
    failed = sorted({v["stage"] for v in verdicts if v["status"] in ("FAIL", "LOST")})
    lines += ["", "What to do next:"]
    lines += [f"  {command} --stage {name}   # repeats what failed" for name in failed]
    if not failed:
        lines.append("  Copy device and figures into benchmarks/RESULTS.md.")
    lines += _speed(stages.get("speed", {}).get("numbers", {}))
    advice = [entry for stage in stages.values() for entry in stage.get("advice", [])]
    if advice:
        lines += ["", "Gains, as factors of their part's speed:"]
        advice.sort(key=lambda entry: -entry["gain"])
        lines += [f"  {entry['gain']:6.2f}x {entry['change']}" for entry in advice]
    for name, kernels in stages.get("profile", {}).get("numbers", {}).items():
        lines += ["", f"Kernels of {name}:"]
        lines += [
            f"  {row['share']:6.1%} {row['us']:9.1f} us {row['calls']:5} {row['kernel']}"
            for row in kernels
        ]
    seconds = ", ".join(f"{name} {stage['seconds']:.0f}" for name, stage in stages.items())
    lines += ["", f"Seconds: {seconds}. All numbers: check.json."]
    text = "\n".join(lines)
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 2] + "…\n"


def _facts(facts: Mapping[str, Any]) -> str:
    if not facts:
        return "without facts"
    return (
        f"{facts['memory_gib']:.0f} GiB, torch {facts['torch']}, {facts['dtype']}: "
        f"{facts['flops_per_s'] / 1e12:.1f} TFLOP/s, {facts['bytes_per_s'] / 1e9:.0f} GB/s"
    )


def _speed(numbers: Mapping[str, Any]) -> list[str]:
    lines = ["", "Predicted and measured:"] if numbers else []
    for name, row in numbers.items():
        rates = ", ".join(f"{rate:.1f} ({num})" for num, rate in row["images_per_s"].items())
        lines.append(
            f"  {name}: roofline {row['roofline_images_per_s']:.1f} images/s, measured {rates}; "
            f"load {row['load_s']:.1f} s, first image {row['first_image_s']:.1f} s, "
            f"its graphs {row['graph_mib']:.0f} MiB outside of torch"
        )
    return lines
