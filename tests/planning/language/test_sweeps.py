"""The sweep language from the command line to the table and the sheet."""

from __future__ import annotations

from pathlib import Path

import pytest

from promptlab.store import read_run
from promptlab.tracking.layout import make_layout
from tests.conftest import Project
from tests.pace import costs_less

PARTI_PROMPTS = Path(__file__).parents[4] / "shared" / "data" / "PartiPrompts.tsv"


def draw(project: Project, *arguments: str) -> list[dict]:
    done = project.run("sweep", *arguments)
    assert done.code == 0, done.err
    return project.rows()


def refuse(project: Project, *arguments: str) -> str:
    done = project.run("sweep", *arguments)
    assert done.code == 1
    assert "Traceback" not in done.err
    assert not project.runs
    return done.err


def test_every_coordinate_is_a_column_and_a_header_of_the_sheet(project: Project):
    project.write("lists/pet.txt", "a cat\na dog\n")
    rows = draw(
        project,
        *("-m", "subject={red|blue} fox,__pet__", "style=noto", "seeds=2"),
        *("template.pattern={subject} in {light: fog|sun}", "wildcards=lists", "limit=50"),
    )
    assert len(rows) == 4 * 2 * 2
    assert {(row["subject"], row["red_blue"], row["light"]) for row in rows} == {
        (f"{colour} fox", colour, light) for colour in ("red", "blue") for light in ("fog", "sun")
    } | {(pet, None, light) for pet in ("a cat", "a dog") for light in ("fog", "sun")}
    sheet = (project.runs[0] / "index.html").read_text()
    for name in ("red_blue", "light"):
        assert name in sheet


def test_parts_of_the_subject_are_no_arm_of_their_own_and_other_axes_are(project: Project):
    pattern = "template.pattern={subject} {by: day|night}"
    rows = draw(project, "subject={red|blue} {fox|cat}", pattern)
    arms = {(row["by"], row["arm_id"]) for row in rows}
    assert len(rows) == 8
    assert len(arms) == 2
    run = read_run(str(project.runs[0]))
    assert run.record.subject_axes == ("red_blue", "fox_cat")
    layout = make_layout(run.axes, run.record.axes, "subject", run.record.subject_axes)
    assert {layout.run_name(row) for row in rows} == {"day", "night"}
    assert not layout.params(rows[0]).keys() & {"red_blue", "fox_cat"}


def test_a_slot_takes_alternatives_lists_and_files(project: Project):
    project.write("actions.csv", 'id,action\n1,"running, fast"\n2,"asleep {really}"\n')
    rows = draw(project, "subject=a fox", "template=cctv", "action=@actions.csv:action")
    assert [row["prompt"] for row in rows] == [
        "cctv footage of a fox running, fast",
        "cctv footage of a fox asleep {really}",
    ]
    assert [row["action"] for row in rows] == ["running, fast", "asleep {really}"]


TABLE = "Prompt\tCategory\tChallenge\na fox\tAnimals\tBasic\n a red robot \tArtifacts\tBasic\n"


def test_further_columns_of_a_table_come_along_as_axes_of_the_subject(project: Project):
    project.write("prompts.tsv", TABLE + "a fox\tLater\tTwice\n")
    subject = "subject=@prompts.tsv:Prompt"
    plain = draw(project, subject, "style=noto", "seeds=2")
    rows = draw(project, "-m", subject, "style=noto,openmoji", "with=[Category,Challenge]")
    assert {(row["subject"], row["Category"], row["Challenge"]) for row in rows} == {
        ("a fox", "Animals", "Basic"),
        ("a red robot", "Artifacts", "Basic"),
    }
    assert len({row["arm_id"] for row in rows}) == 2
    assert {row["image_id"] for row in rows} & {row["image_id"] for row in plain}
    run = read_run(str(project.runs[-1]))
    assert run.record.subject_axes == ("Category", "Challenge")
    assert "Category" in (project.runs[-1] / "index.html").read_text()


def test_columns_come_along_with_any_slot_that_a_table_fills(project: Project):
    project.write("acts.csv", "action;mood\nasleep;calm\nrunning;wild\n")
    rows = draw(
        project, "subject=a,b", "-m", "template=cctv", "action=@acts.csv:action", "with=mood"
    )
    assert {(row["action"], row["mood"]) for row in rows} == {
        ("asleep", "calm"),
        ("running", "wild"),
    }
    assert "mood" not in read_run(str(project.runs[-1])).record.subject_axes


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["subject=a fox", "with=[Category]"], "expected a prompt from a table"),
        (["subject=@prompts.tsv:Prompt", "with=[Nothing]"], "Columns: Prompt, Category, Challenge"),
        (["subject=@taken.csv:Prompt", "with=[Seed]"], "it is a column already"),
        (["subject=@prompts.tsv:Prompt", "with=[5]"], "expected names of columns"),
        *(
            (["subject=@prompts.tsv:Prompt", "with=[Category]", option], f"{words} is a column")
            for option, words in (
                ("exclude=[{Category: Animals}]", "exclude: Category"),
                ("sample={Category: 1}", "sample: Category"),
                ("zip=[[Category,subject]]", "zip: Category"),
            )
        ),
    ],
)
def test_columns_that_cannot_come_along_are_refused(project: Project, arguments, words):
    project.write("prompts.tsv", TABLE)
    project.write("taken.csv", "Prompt,Seed\na,1\n")
    assert words in refuse(project, *arguments)


def test_a_named_sweep_may_say_all_of_it_in_yaml(project: Project):
    project.write(
        "sweeps/mine.yaml",
        """# @package _global_
hydra:
  mode: MULTIRUN
  sweeper:
    params:
      subject: "{red|blue} fox,it's a cat,a dog"
      style: noto,openmoji
exclude:
  - {style: noto, subject: [red*, "it's*"]}
""",
    )
    done = project.run("sweep", "+sweeps=mine")
    assert done.code == 0, done.err
    assert [(row["subject"], row["style"]) for row in project.rows()] == [
        ("blue fox", "noto"),
        ("red fox", "openmoji"),
        ("blue fox", "openmoji"),
        ("it's a cat", "openmoji"),
        ("a dog", "noto"),
        ("a dog", "openmoji"),
    ]


def test_zipped_axes_of_hydra_and_of_prompts(project: Project):
    rows = draw(
        project, "-m", "subject=[p,q]", "style=noto,openmoji", "zip=[[subject,style]]", "seeds=2"
    )
    assert {(row["subject"], row["style"]) for row in rows} == {("p", "noto"), ("q", "openmoji")}
    assert len(rows) == 4
    error = project.run(
        "sweep", "-m", "subject=a,b,c", "style=noto,openmoji", "zip=[[subject,style]]"
    )
    assert "subject has 3, style has 2" in error.err


def test_a_sample_is_resolved_once_and_drawn_again_the_same(project: Project):
    project.write("wildcards/n.txt", "\n".join(f"thing {i}" for i in range(100)))
    arguments = ("subject=__n__", "sample={n: 5}")
    first = [row["subject"] for row in draw(project, *arguments)]
    assert len(first) == 5
    again = project.run("sweep", *arguments)
    assert again.code == 0
    assert len(project.runs) == 1
    assert [row["subject"] for row in project.rows()] == first


def test_a_run_goes_on_with_the_sample_that_it_began_with(project: Project):
    things = [f"thing {i}" for i in range(50)]
    project.write("wildcards/n.txt", "\n".join(things))
    first = {row["subject"] for row in draw(project, "subject=__n__", "sample={n: 5}")}
    (run,) = project.runs
    project.write("wildcards/n.txt", "\n".join([*things, *(f"other {i}" for i in range(500))]))
    done = project.run("sweep", "--resume", str(run))
    assert done.code == 0, done.err
    assert {row["subject"] for row in project.rows(run)} == first
    project.write("wildcards/n.txt", "\n".join(f"other {i}" for i in range(500)))
    gone = project.run("sweep", "--resume", str(run))
    assert "no longer there" in gone.err


def test_the_plan_counts_a_million_cells_without_building_them(project: Project):
    hundred = "|".join(map(str, range(100)))
    subject = f"{{a: {hundred}}} {{b: {hundred}}} {{c: {hundred}}}"

    def plan() -> None:
        error = refuse(project, f"subject={subject}", "--plan")
        assert "1,000,000 images" in error
        assert "a 100, b 100, c 100" in error
        assert "limit of 20,000" in error

    assert costs_less(plan, 40)  # a cell that is built takes hundreds of a loop's turns


def test_the_plan_says_what_zips_samples_and_rules_left_out(project: Project):
    done = project.run(
        *("sweep", "-m", "subject={a: x|y|z}", "style=noto,openmoji", "--plan"),
        "exclude=[{a: x, style: noto}, {style: nothing}]",
    )
    assert done.code == 0
    assert "exclude {a: x, style: noto}: 1 cell left out" in done.out
    assert (done.out + done.err).count("The rule exclude {style: nothing} matches nothing") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["subject=a {red|blue fox"], "subject, column 3: this { is never closed"),
        (["subject=a {place}"], "The slot {place} is not filled"),
        (["subject=a __nimal__"], "Did you mean __animal__"),
        (["subject={style: a|b}"], "an axis cannot be called 'style'"),
        (["subject={temperature: hot|cold}"], "an axis cannot be called 'temperature'"),
        (["subject=__a__"], "b → a → b"),
        (["subject=__empty__"], "has no values"),
        (["subject=@none.txt"], "there is no file none.txt"),
        (["subject={a|b}", "exclude=[{subject: '*'}]"], "Nothing is left to draw"),
        (["subject={a|b}", "only=[{colour: red}]"], "no axis 'colour'"),
        (["subject={a: b}"], "Quote it once more"),
        (["subject={a|b},c"], "a comma separates values"),
        (
            ["-m", "subject={colour: a|b}", "template.pattern={subject} {colour: x|y}"],
            "two meanings",
        ),
    ],
)
def test_mistakes_are_answered_before_any_model_is_loaded(project: Project, arguments, words):
    from tests.painters import CALLS

    project.write("wildcards/a.txt", "__b__\n")
    project.write("wildcards/b.txt", "__a__\n")
    project.write("wildcards/empty.txt", "# nothing\n")
    assert words in refuse(project, *arguments)
    assert CALLS == []


@pytest.mark.parametrize(
    ("line", "quoted"),
    [
        ("subject: @file.txt", 'subject: "@file.txt"'),
        ("subject: {red|blue} fox", 'subject: "{red|blue} fox"'),
        ("subject: {red|blue}", 'subject: "{red|blue}"'),
    ],
)
def test_what_yaml_wants_quoted_is_said_with_the_quoted_line(project: Project, line, quoted):
    project.write("sweeps/mine.yaml", f"# @package _global_\n{line}\n")
    assert quoted in refuse(project, "+sweeps=mine")


@pytest.mark.skipif(not PARTI_PROMPTS.exists(), reason="PartiPrompts.tsv is not at hand")
def test_each_of_1632_parti_prompts_becomes_a_cell(project: Project):
    done = project.run("sweep", f"subject=@{PARTI_PROMPTS}:Prompt", "--plan")
    assert done.code == 0, done.err
    assert "1,632 cells, 1,632 images" in done.out
