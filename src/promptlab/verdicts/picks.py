"""Picks: a person's verdicts on images, kept as rows beside the images they judge.

Takes verdicts from the command line or from a page's `picks.json`; keeps them in the run folder's
`picks.parquet`; returns the verdict on every image. The file is a history: a newer row of the same
person on the same image replaces the older one, and nothing is ever deleted. The verdicts of
several people on one image are combined. Knows nothing of pages, MLflow or models.
"""

from __future__ import annotations

import contextlib
import datetime
import getpass
import io
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

from promptlab.errors import ReportError
from promptlab.identity import escape_surrogates
from promptlab.paths import RunPaths

if TYPE_CHECKING:
    import pyarrow as pa

    from promptlab.store.storage import Storage

EXPORT_FORMAT = "promptlab-picks"
MAX_NOTE_LENGTH = 20_000  # characters; a note is a remark, not a document
PICK_RATING = 3  # default of the rating that makes an image a pick
PICK_RATING_VARIABLE = "PROMPTLAB_PICK_RATING"  # sets it for pages, commands and MLflow at once
LOCK_PATIENCE_S = 30.0  # for another one who writes picks of the same run


@dataclass(frozen=True, slots=True)
class Pick:
    """One verdict: who said what about which image, and when."""

    image_id: str
    rating: int | None = None  # 1 to 5
    is_favourite: bool = False
    is_reject: bool = False
    note: str = ""
    who: str = ""
    picked_at: str = ""  # UTC, ISO 8601

    def __post_init__(self) -> None:
        is_id = len(self.image_id) == 16 and all(c in "0123456789abcdef" for c in self.image_id)
        if not is_id:
            raise ReportError(
                f"A pick names an image by its id of 16 hex digits, got {self.image_id[:80]!r}. "
                "The contact sheet and the end of every file name show it."
            )
        is_rating = type(self.rating) is int and 1 <= self.rating <= 5  # True is no rating
        if self.rating is not None and not is_rating:
            raise ReportError(f"A rating is a whole number from 1 to 5, got {self.rating!r}.")
        if len(self.note) > MAX_NOTE_LENGTH:
            raise ReportError(
                f"A note holds at most {MAX_NOTE_LENGTH} characters, got {len(self.note)}."
            )
        object.__setattr__(self, "picked_at", _utc_text(self.picked_at))
        for name in ("note", "who"):  # a page may cut a text inside an emoji
            object.__setattr__(self, name, escape_surrogates(getattr(self, name)))

    @property
    def verdict(self) -> str:
        """The verdict in one word: favourite, reject, 1 to 5, note, or cleared."""
        if self.is_favourite:
            return "favourite"
        if self.is_reject:
            return "reject"
        if self.rating is not None:
            return str(self.rating)
        return "note" if self.note else "cleared"

    @property
    def is_cleared(self) -> bool:
        """Whether this row takes every earlier verdict back."""
        return self.verdict == "cleared"

    def is_pick(self, min_rating: int | None = None) -> bool:
        """Tell whether the image is picked: a favourite or rated high, and no reject.

        `min_rating` defaults to `pick_rating()`. Everything else is a judgement, not a pick.
        """
        threshold = pick_rating() if min_rating is None else min_rating
        return not self.is_reject and (self.is_favourite or (self.rating or 0) >= threshold)


def now_utc() -> str:
    """Return the time as picks record it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def _utc_text(text: str) -> str:
    """Return any ISO 8601 time as one fixed-width UTC text, so that texts sort as times."""
    try:
        moment = datetime.datetime.fromisoformat(text or now_utc())
    except ValueError:
        raise ReportError(f"A pick's time is written as ISO 8601, got {text[:80]!r}.") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return moment.astimezone(datetime.UTC).isoformat(timespec="milliseconds")


def default_who() -> str:
    """Return the person's name to sign picks with: PROMPTLAB_WHO, else the login name."""
    if name := os.environ.get("PROMPTLAB_WHO"):
        return name
    with contextlib.suppress(OSError, KeyError, ImportError):
        return getpass.getuser()
    return ""


def read_picks(run_root: str | os.PathLike[str]) -> list[Pick]:
    """Return every verdict ever given in a run, oldest first; none without a picks file."""
    from promptlab.store.storage import open_storage

    path = RunPaths(str(run_root)).picks_parquet
    try:
        data = open_storage(path).read_bytes(path)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ReportError(f"{path} cannot be read: {error}") from error
    import pyarrow.parquet as pq

    names = [field.name for field in fields(Pick)]
    try:
        rows = pq.read_table(io.BytesIO(data), columns=names).to_pylist()
    except (OSError, ValueError, KeyError) as error:
        raise ReportError(f"{path} cannot be read as picks: {error}") from error
    picks = [Pick(**{**row, "picked_at": row["picked_at"].isoformat()}) for row in rows]
    return sorted(picks, key=lambda pick: pick.picked_at)


def pick_rating() -> int:
    """Return the lowest rating that makes a pick: PROMPTLAB_PICK_RATING, else 3."""
    text = os.environ.get(PICK_RATING_VARIABLE) or str(PICK_RATING)
    if text not in ("1", "2", "3", "4", "5"):
        raise ReportError(
            f"{PICK_RATING_VARIABLE}={text!r}: expected a whole number from 1 to 5, the lowest "
            "rating that makes an image a pick."
        )
    return int(text)


def current_picks(run_root: str | os.PathLike[str]) -> dict[str, Pick]:
    """Return the verdict on every judged image of a run, by image_id, of all people together."""
    return current(read_picks(run_root))


def current(picks: Iterable[Pick]) -> dict[str, Pick]:
    """Return the verdict on every judged image, by image_id: what its people say, combined."""
    return {image_id: combine(said) for image_id, said in newest_by_person(picks).items()}


def newest_by_person(picks: Iterable[Pick]) -> dict[str, list[Pick]]:
    """Return each person's newest verdict on each image, by image_id; cleared ones are left out.

    Images and people stand in the order in which they were judged last. An unsigned verdict is
    that of one person without a name.
    """
    newest: dict[tuple[str, str], Pick] = {}
    for pick in sorted(picks, key=lambda pick: pick.picked_at):
        newest.pop((pick.image_id, pick.who), None)
        newest[pick.image_id, pick.who] = pick
    by_image: dict[str, list[Pick]] = {}
    for pick in newest.values():
        if not pick.is_cleared:
            said = by_image.pop(pick.image_id, [])
            by_image[pick.image_id] = [*said, pick]
    return by_image


def combine(said: Sequence[Pick]) -> Pick:
    """Return one verdict for what several people say of one image, one verdict each.

    One favourite makes a favourite; the rating is the mean, rounded half up; a reject needs more
    rejects than people who judged without rejecting. Names and notes are all kept.
    """
    if len(said) == 1:
        return said[0]
    ratings = [pick.rating for pick in said if pick.rating is not None and not pick.is_reject]
    num_rejects = sum(pick.is_reject for pick in said)
    num_others = sum(
        not pick.is_reject and (pick.is_favourite or bool(pick.rating)) for pick in said
    )
    is_reject = num_rejects > num_others
    notes = [f"{pick.who}: {pick.note}" if pick.who else pick.note for pick in said if pick.note]
    return Pick(
        image_id=said[0].image_id,
        rating=(2 * sum(ratings) + len(ratings)) // (2 * len(ratings)) if ratings else None,
        is_favourite=not is_reject and any(pick.is_favourite for pick in said),
        is_reject=is_reject,
        note="\n".join(notes)[:MAX_NOTE_LENGTH],
        who=", ".join(pick.who for pick in said if pick.who),
        picked_at=max(pick.picked_at for pick in said),
    )


def record_picks(run_root: str | os.PathLike[str], picks: Iterable[Pick]) -> int:
    """Append the verdicts that the run does not hold yet; return how many were new.

    Recording the same verdicts twice changes nothing. The file is replaced in one step, so that
    a reader sees the old history or the new one.
    """
    from promptlab.store.lock import wait_for_lock
    from promptlab.store.storage import open_storage

    paths = RunPaths(str(run_root))
    storage = open_storage(paths.root)
    try:
        if not _is_folder(storage, paths.root):
            raise ReportError(f"There is no run folder {paths.root}.")
        with wait_for_lock(paths.join(".picks.parquet.lock"), LOCK_PATIENCE_S):
            known = read_picks(run_root)
            added = [pick for pick in dict.fromkeys(picks) if pick not in set(known)]
            if added:
                history = sorted(known + added, key=lambda pick: pick.picked_at)
                storage.write_files({paths.picks_parquet: _parquet(history)})
    except OSError as error:
        raise ReportError(f"The picks cannot be kept in {paths.picks_parquet}: {error}") from error
    return len(added)


def picks_from_json(text: str, who: str = "") -> list[Pick]:
    """Return the verdicts of a `picks.json` that a contact sheet exported.

    `who` signs those that carry no name. Raises ReportError, naming the entry, for anything else.
    """
    try:
        document = json.loads(text.removeprefix("\ufeff"))  # editors add a byte order mark
        entries = document["picks"]
        is_ours = document["format"] == EXPORT_FORMAT and isinstance(entries, list)
    except (ValueError, KeyError, TypeError):
        is_ours = False
    if not is_ours:
        raise ReportError(
            "This is no picks.json of a contact sheet: "
            f'expected an object with "format": "{EXPORT_FORMAT}" and a list "picks".'
        )
    picks = []
    for number, entry in enumerate(entries, start=1):
        try:
            picks.append(
                Pick(
                    image_id=str(entry["image_id"]),
                    rating=entry.get("rating"),
                    is_favourite=entry.get("is_favourite") is True,
                    is_reject=entry.get("is_reject") is True,
                    note=str(entry.get("note") or ""),
                    who=str(entry.get("who") or who),
                    picked_at=str(entry["picked_at"]),
                )
            )
        except (KeyError, TypeError, AttributeError, ReportError) as error:
            raise ReportError(f"Entry {number} of the picks is not readable: {error}") from error
    return picks


def picks_to_json(picks: Iterable[Pick]) -> str:
    """Return verdicts in the format that pages export and `promptlab pick --import` takes."""
    return json.dumps({"format": EXPORT_FORMAT, "version": 1, "picks": [asdict(p) for p in picks]})


def _table(picks: list[Pick]) -> pa.Table:
    import pyarrow as pa

    types = {
        "image_id": pa.string(),
        "rating": pa.int8(),
        "is_favourite": pa.bool_(),
        "is_reject": pa.bool_(),
        "note": pa.string(),
        "who": pa.string(),
    }
    columns = {name: pa.array([getattr(p, name) for p in picks], t) for name, t in types.items()}
    moments = [datetime.datetime.fromisoformat(pick.picked_at) for pick in picks]
    columns["picked_at"] = pa.array(moments, pa.timestamp("us", tz="UTC"))
    columns["verdict"] = pa.array([pick.verdict for pick in picks], pa.string())
    return pa.table(columns)


def _is_folder(storage: Storage, path: str) -> bool:
    if storage.is_local:
        return os.path.isdir(path)
    return bool(storage.list_sizes(path) or storage.list_folders(path))


def _parquet(picks: list[Pick]) -> bytes:
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(_table(picks), buffer)
    return buffer.getvalue()
