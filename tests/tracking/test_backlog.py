"""Which part is read next and which of its images are logged, whatever happens in between."""

from __future__ import annotations

from promptlab.store.parts import Part
from promptlab.tracking.backlog import Backlog


def part(number: int, num_rows: int = 2, replaces: tuple[str, ...] = ()) -> Part:
    name = f"part-{number:06d}.parquet"
    return Part(name, f"runs/x/{name}", num_rows, 0, (), replaces, frozenset())


def rows(*seeds: int, status: str = "ok") -> list[dict[str, object]]:
    return [{"cell_id": "a", "seed": seed, "status": status} for seed in seeds]


def log_all(backlog: Backlog, of: Part, *seeds: int) -> None:
    backlog.mark_done((row["cell_id"], row["seed"]) for row in backlog.missing(of, rows(*seeds)))
    backlog.close(of)


def test_parts_are_read_in_order_and_each_once() -> None:
    backlog, parts = Backlog(), [part(0), part(1)]
    assert backlog.next_part(parts) == parts[0]
    log_all(backlog, parts[0], 0, 1)
    assert backlog.next_part(parts) == parts[1]
    log_all(backlog, parts[1], 2, 3)
    assert backlog.next_part(parts) is None
    assert backlog.next_part([*parts, part(2)]) == part(2)


def test_a_part_made_of_logged_ones_is_not_read_again_and_one_of_any_other_is() -> None:
    backlog = Backlog()
    log_all(backlog, part(0), 0, 1)
    merged = part(2, 4, replaces=(part(0).name, part(1).name))
    assert backlog.next_part([merged]) == merged
    assert [row["seed"] for row in backlog.missing(merged, rows(0, 1, 2, 3))] == [2, 3]
    log_all(backlog, part(1), 2, 3)
    assert backlog.next_part([merged]) is None


def test_failed_done_and_lost_images_are_not_logged() -> None:
    backlog = Backlog()
    backlog.mark_done([("a", 0)])
    backlog.lost.add(("a", 1))
    missing = backlog.missing(part(0), [*rows(0, 1, 2), *rows(3, status="failed")])
    assert [row["seed"] for row in missing] == [2]


def test_a_part_that_was_offered_and_refused_is_not_offered_again() -> None:
    backlog, parts = Backlog(), [part(0), part(1)]
    assert len(backlog.missing(parts[0], rows(0, 1))) == 2
    backlog.close(parts[0])
    assert backlog.next_part(parts) == parts[1]


def test_the_images_left_are_those_of_this_part_and_of_all_later_ones() -> None:
    backlog, parts = Backlog(), [part(0, 3), part(1, 5)]
    assert backlog.num_left(parts) == 8
    backlog.missing(parts[0], rows(0, 1, 2))
    backlog.mark_done([("a", 0), ("a", 1)])
    assert backlog.num_left(parts) == 1 + 5
    backlog.mark_done([("a", 0), ("a", 1)])  # said again
    assert backlog.num_left(parts) == 1 + 5
    backlog.mark_done([("a", 2)])
    backlog.close(parts[0])
    assert backlog.num_left(parts) == 5
