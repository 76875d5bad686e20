import itertools
import json

import numpy as np
import pytest

from promptlab.errors import ReportError
from promptlab.report.arrangement import arrange
from promptlab.report.axes import make_axis
from promptlab.report.best import best_of_cells, order_by_liking
from promptlab.report.chunks import SheetFeed, whole_chunk
from promptlab.report.data import collect
from promptlab.report.looks import order_by_look
from promptlab.store import read_run
from promptlab.verdicts.picks import Pick, record_picks
from promptlab.verdicts.scores import Scorer, record_scores
from tests.painters import PaintModel
from tests.report.runs import STYLES, SUBJECTS, make_run, write_scores


def collect_runs(*roots):
    return collect([read_run(root) for root in roots])


def test_every_request_is_a_row_and_every_axis_has_a_code_for_it(foxes):
    data = collect_runs(foxes)
    assert data.num_rows == data.num_images == 24
    assert data.axis("subject").values == SUBJECTS
    assert data.axis("style").values == STYLES
    assert data.axis("seed").is_numeric
    rows = read_run(foxes).rows()
    shown = {
        (data.image_ids[data.image_of_row[i]], *(a.values[a.codes[i]] for a in data.axes[:2]))
        for i in range(data.num_rows)
    }
    assert shown == {(row["image_id"], row["subject"], row["style"]) for row in rows}


def test_values_of_axes_stand_in_the_order_of_the_sweep_and_numbers_ascend(tmp_path):
    root = make_run(
        tmp_path / "run",
        subjects=["zebra", "ant"],
        axes={"temperature": [1.0, 0.25], "action": ["running", "asleep"]},
    )
    data = collect_runs(root)
    assert data.axis("subject").values == ("zebra", "ant")
    assert data.axis("temperature").values == ("0.25", "1")
    assert data.axis("action").values == ("running", "asleep")


def places(data, **wanted):
    arrangement = data.arrangement(**wanted)
    return arrangement.rows, arrangement.columns, arrangement.inner, arrangement.tabs


def test_subjects_and_styles_are_rows_and_columns_where_they_vary(foxes):
    assert places(collect_runs(foxes)) == ("subject", "style", (), ())
    assert places(collect_runs(foxes), rows="seed") == ("seed", "subject", ("style",), ())


def test_the_parts_of_a_choice_are_the_axes_never_the_subject_they_make_up(tmp_path):
    axes = {"colour": ["red", "blue", "green"], "animal": ["fox", "owl", "rocket"]}
    root = make_run(tmp_path / "run", subjects=["x"], styles=["noto"], axes=axes, num_seeds=1)
    data = collect_runs(root)
    pairs = [
        f"{data.axis('colour').values[c]} {data.axis('animal').values[a]}"
        for c, a in zip(data.axis("colour").codes, data.axis("animal").codes, strict=True)
    ]
    derived = make_axis("subject", pairs, ())
    arrangement = arrange([a if a.name != "subject" else derived for a in data.axes])
    assert (arrangement.rows, arrangement.columns) == ("colour", "animal")
    assert arrangement.tabs == ()


def test_a_parameter_beside_subjects_does_not_make_them_up(tmp_path):
    root = make_run(tmp_path / "run", styles=["noto"], axes={"top_k": [8, 16]}, num_seeds=1)
    assert places(collect_runs(root)) == ("subject", "top_k", (), ())


@pytest.mark.parametrize(
    ("values", "inner", "tabs"),
    [([1.0, 2.0, 3.0, 4.0], ("temperature",), ()), ([1, 2, 3, 4, 5], (), ("temperature",))],
)
def test_a_third_axis_lies_in_the_cells_up_to_four_values_and_else_is_tabs(
    tmp_path, values, inner, tabs
):
    root = make_run(tmp_path / "run", axes={"temperature": values}, num_seeds=1)
    assert places(collect_runs(root)) == ("subject", "style", inner, tabs)


def test_one_axis_and_the_seeds_of_one_prompt_are_a_wall(tmp_path):
    subjects = make_run(tmp_path / "subjects", styles=["noto"], num_seeds=3)
    assert places(collect_runs(subjects)) == ("subject", None, (), ())
    seeds = make_run(tmp_path / "seeds", subjects=["a fox"], styles=["noto"], num_seeds=9)
    assert places(collect_runs(seeds)) == ("seed", None, (), ())
    one = make_run(tmp_path / "one", subjects=["a fox"], styles=["noto"], num_seeds=1)
    assert places(collect_runs(one)) == (None, None, (), ())


def test_an_unknown_axis_is_answered_with_the_axes_there_are(foxes):
    with pytest.raises(ReportError, match=r"no axis 'colour'.*subject, style"):
        collect_runs(foxes).axis("colour")


def test_images_are_numbered_candidate_by_candidate(foxes):
    data = collect_runs(foxes)
    seeds = data.axis("seed").codes
    order = seeds[np.argsort(data.image_of_row)]
    assert (np.diff(order) >= 0).all(), "all first candidates, then all second ones"


def test_two_runs_share_their_axes_and_a_missing_axis_is_read_from_the_parameters(tmp_path):
    cool = make_run(tmp_path / "cool", params={"temperature": 0.5})
    warm = make_run(tmp_path / "warm", axes={"temperature": [1.0, 2.0]})
    data = collect_runs(cool, warm)
    assert data.axes[0].name == "run"
    assert data.axis("run").values == ("cool", "warm")
    temperature = data.axis("temperature")
    in_cool = {temperature.values[c] for c in temperature.codes[data.run_of_row == 0]}
    assert in_cool == {"0.5"}


def test_the_values_of_a_second_run_follow_those_of_the_first(tmp_path):
    a = make_run(tmp_path / "a", subjects=["zebra", "ant", "yak"])
    b = make_run(tmp_path / "b", subjects=["zebra", "bee", "ant"], params={"top_k": 8})
    assert collect_runs(a, b).axis("subject").values == ("zebra", "ant", "yak", "bee")


def test_runs_are_named_by_what_differs_between_them(tmp_path):
    cold = make_run(tmp_path / "2026-11-28_01-04-11_cold", params={"temperature": 0.25})
    hot = make_run(tmp_path / "2026-11-28_01-05-12_hot", params={"temperature": 2.0})
    values = collect_runs(cold, hot).axis("run").values
    assert values == ("cold · temperature 0.25", "hot · temperature 2")


def test_a_run_is_not_named_by_what_only_another_one_has(tmp_path):
    drawn = make_run(tmp_path / "2026-11-28_01-04-11_chain")
    varied = make_run(tmp_path / "2026-11-28_01-05-12_chain_varied", axes={"strength": [0.6]})
    values = collect_runs(drawn, varied).axis("run").values
    assert values == ("chain", "chain_varied · strength 0.6")


def test_runs_whose_folders_have_the_same_name_stay_apart(tmp_path):
    a = make_run(tmp_path / "a" / "run")
    b = make_run(tmp_path / "b" / "run", params={"temperature": 0.5})
    assert len(set(collect_runs(a, b).axis("run").values)) == 2


def test_an_image_with_other_pixels_in_another_run_is_an_image_of_its_own(tmp_path):
    a = make_run(tmp_path / "a")
    b = make_run(tmp_path / "b", grain=20.0)  # same requests, other pixels
    data = collect_runs(a, b)
    assert len(set(data.image_ids)) == 24
    assert data.num_images == 48


def test_the_same_cell_in_two_runs_is_two_cells_of_candidates(tmp_path):
    a = make_run(tmp_path / "a")
    b = make_run(tmp_path / "b", grain=20.0)  # same cells, other pixels
    data = collect_runs(a, b)
    in_a, in_b = (set(data.cell_of_row[data.run_of_row == run].tolist()) for run in (0, 1))
    assert len(in_a) == len(in_b) == 12
    assert in_a.isdisjoint(in_b)


def test_failures_are_rows_without_pixels(tmp_path):
    data = collect_runs(make_run(tmp_path / "run", fails_on="a fox, noto"))
    assert int((~data.has_image).sum()) == 2
    errors = data.texts["error"]
    assert "cannot be painted" in "".join(errors.values)


def test_a_run_without_a_row_cannot_be_shown(tmp_path):
    root = make_run(tmp_path / "run", subjects=["a fox"], styles=["noto"], num_seeds=0)
    with pytest.raises(ReportError, match="no images yet"):
        collect_runs(root)


@pytest.mark.parametrize("shape", ["a column a score", "a row a score"])
def test_scores_are_joined_by_image_in_either_shape(tmp_path, shape):
    root = make_run(tmp_path / "run")
    ids = [row["image_id"] for row in read_run(root).rows(["image_id"])]
    values = {image_id: i / 10 for i, image_id in enumerate(ids[:5])}
    if shape == "a column a score":
        write_scores(root, values)
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = {"image_id": list(values), "name": ["agreement"] * 5, "value": [*values.values()]}
        pq.write_table(pa.table(table), f"{root}/scores.parquet")
    data = collect_runs(root)
    (score,) = data.scores
    assert (score.name, score.is_higher_better) == ("agreement", True)
    found = dict(zip(data.image_ids, score.values, strict=True))
    assert {k: v for k, v in found.items() if v is not None} == values


def test_the_best_of_a_cell_is_what_a_person_liked_then_what_scored_then_the_first(tmp_path):
    root = make_run(tmp_path / "run", subjects=["a fox"], styles=["noto"], num_seeds=4)
    ids = [row["image_id"] for row in sorted(read_run(root).rows(), key=lambda r: r["seed"])]

    def best():
        data = collect_runs(root)
        table = best_of_cells(data, data.arrangement("subject", "style"))
        return ids.index(data.image_ids[data.image_of_row[table.best[0, 0]]])

    assert best() == 0
    write_scores(root, dict(zip(ids, (0.1, 0.2, 0.9, 0.3), strict=True)))
    assert best() == 2
    record_picks(root, [Pick(ids[1], rating=4), Pick(ids[2], is_reject=True)])
    assert best() == 1
    record_picks(root, [Pick(ids[3], is_favourite=True)])
    assert best() == 3


def test_a_score_whose_low_values_are_good_and_the_one_asked_for_order_candidates(tmp_path):
    root = make_run(tmp_path / "run", subjects=["a fox"], styles=["noto"], num_seeds=4)
    ids = [row["image_id"] for row in sorted(read_run(root).rows(), key=lambda r: r["seed"])]
    record_scores(root, Scorer("taste"), dict(zip(ids, (0.1, 0.9, 0.2, 0.3), strict=True)))
    distance = Scorer("distance", is_higher_better=False, low=0.0, high=10.0)
    record_scores(root, distance, dict(zip(ids, (5.0, 4.0, 1.0, 3.0), strict=True)))

    def order(sort=None):
        data = collect([read_run(root)], sort)
        rows = order_by_liking(data, range(data.num_rows))
        return [ids.index(data.image_ids[data.image_of_row[row]]) for row in rows]

    assert order() == [1, 3, 2, 0]
    assert order("distance") == [2, 3, 1, 0]
    with pytest.raises(ReportError, match=r"no score 'beauty'.*taste, distance"):
        order("beauty")


def test_a_refit_scorer_replaces_its_older_values_and_leaves_those_of_others(tmp_path):
    root = make_run(tmp_path / "run", subjects=["a fox"], styles=["noto"], num_seeds=3)
    ids = [row["image_id"] for row in read_run(root).rows(["image_id"])]
    record_scores(root, Scorer("other"), {ids[0]: 1.0})
    record_scores(root, Scorer("taste", "first"), dict.fromkeys(ids, 0.5))
    record_scores(root, Scorer("taste", "first"), {ids[0]: 0.75, ids[1]: float("nan")})
    scores = {score.name: score for score in collect_runs(root).scores}
    assert sorted(scores["taste"].values) == [0.5, 0.5, 0.75], "the same weights add to it"
    record_scores(root, Scorer("taste", "second", is_higher_better=False, low=0), {ids[2]: 0.25})
    scores = {score.name: score for score in collect_runs(root).scores}
    assert [value for value in scores["taste"].values if value is not None] == [0.25]
    assert (scores["taste"].is_higher_better, scores["taste"].low) == (False, 0)
    assert 1.0 in scores["other"].values


def test_lineage_is_kept_a_row(tmp_path, foxes):
    parent = read_run(foxes).rows(["image_id"])[0]["image_id"]
    root = make_run(tmp_path / "next", parent_ids=[parent], model=PaintModel(name="bigger"))
    data = collect_runs(root)
    assert set(data.parents) == set(range(data.num_rows))
    assert data.parents[0] == (parent,)


def test_the_whole_of_a_sweep_yaml_is_readable_on_the_page(foxes):
    facts = dict(collect_runs(foxes).runs[0].facts)
    assert facts["argv"] == "seeds=2"
    json.dumps(facts)


def test_verdicts_and_scores_of_all_runs_are_on_the_page_of_several(tmp_path):
    a = make_run(tmp_path / "a", subjects=["a fox"], styles=["noto"])
    b = make_run(tmp_path / "b", subjects=["a fox", "a yak"], styles=["noto"])
    rows = sorted(read_run(b).rows(), key=lambda row: (row["subject"], row["seed"]))
    fox, _, yak, other = (row["image_id"] for row in rows)
    record_picks(a, [Pick(fox, rating=2, who="ann")])
    record_picks(b, [Pick(fox, rating=5, who="bob"), Pick(yak, is_reject=True), Pick("0" * 16)])
    record_scores(a, Scorer("taste"), {fox: 0.25})
    record_scores(b, Scorer("taste"), {yak: 0.75})
    data = collect_runs(a, b)
    picks = {pick.image_id: pick for pick in data.picks}
    assert (picks[fox].rating, picks[yak].is_reject) == (4, True)
    assert picks.keys() == {fox, yak}
    assert {i: [pick.who for pick in said] for i, said in data.said.items()} == {
        fox: ["ann", "bob"]
    }
    (score,) = data.scores
    found = dict(zip(data.image_ids, score.values, strict=True))
    assert (found[fox], found[yak], found[other]) == (0.25, 0.75, None)


def test_near_duplicates_are_looked_for_in_one_cell_and_alike_ones_stand_together():
    chance = np.random.default_rng(4)
    cells = np.repeat(np.arange(5), 6)[chance.permutation(30)]
    images = chance.permutation(30)
    levels = chance.integers(0, 4, 30) * 60  # four kinds that look alike in every cell
    looks = {
        int(image): np.full(192, levels[image] + image % 3, np.uint8).tobytes()
        for image in images
        if image % 7
    }
    place, twin = order_by_look(cells, images, looks)
    for cell in range(5):
        rows = np.flatnonzero(cells == cell).tolist()
        assert sorted(place[rows].tolist()) == list(range(6))
        known = [row for row in rows if int(images[row]) in looks]
        unknown = [row for row in rows if row not in known]
        assert sorted(rows, key=lambda row: place[row])[len(known) :] == unknown
        for row in rows:
            alike = [r for r in known if row in known and levels[images[r]] == levels[images[row]]]
            assert twin[row] == (alike[0] if alike else row)
        kinds = [int(levels[images[row]]) for row in sorted(known, key=lambda row: place[row])]
        assert sum(a != b for a, b in itertools.pairwise(kinds)) < len(set(kinds))


def test_a_page_that_grows_says_the_same_as_one_that_was_whole_from_the_beginning(tmp_path):
    subjects = ["a fox", "a yak", "an owl"]
    small = make_run(tmp_path / "small", subjects=subjects[:2], styles=["noto"])
    write_scores(small, {row["image_id"]: 0.5 for row in read_run(small).rows(["image_id"])})
    whole = make_run(tmp_path / "whole", subjects=subjects, styles=["noto", "x"], fails_on="owl, x")
    data = collect_runs(small)
    chunk = whole_chunk(data, {}, [])
    feed = SheetFeed.after(data)
    rows = [{**row, "path": "p"} for row in read_run(whole).rows()]
    for start in range(0, len(rows), 5):
        chunk.extend(feed.add(rows[start : start + 5]))

    def said(chunk):
        """Return what a page shows of each row: the last that it is told."""
        image = {at: i for i, at in enumerate(chunk.image.at)}
        found = {}
        for i, at in enumerate(chunk.row.at):
            values = {n: chunk.values[n][c[i]] for n, c in chunk.row.codes.items()}
            texts = {n: chunk.texts[n][c[i]] for n, c in chunk.row.texts.items()}
            place = image[chunk.row.image[i]]
            found[at] = (
                *(values[name] for name in ("subject", "style", "seed")),
                *(texts["prompt"], chunk.row.status[i], chunk.row.cell[i]),
                *(chunk.image.id[place], chunk.image.sha[place]),
            )
        return set(found.values()), len(found)

    shown, count = said(chunk)
    expected, _ = said(whole_chunk(collect_runs(whole), {}, []))
    assert count == len(rows) == 12
    drop_cell = lambda all_: {(*one[:5], *one[6:]) for one in all_}  # noqa: E731
    assert drop_cell(shown) == drop_cell(expected)
    cells = {(one[0], one[1]): one[5] for one in shown}
    assert len(set(cells.values())) == 6, "a cell a subject and style"
    (scores,) = chunk.scores.values()
    assert len(scores) == len(chunk.image.at)
    assert scores[:4] == [0.5] * 4
    assert set(scores[4:]) == {None}
