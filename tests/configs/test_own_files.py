"""A project's own configs: tables of styles as A1111 keeps them."""

from __future__ import annotations

from tests.conftest import Project

STYLES = """\ufeffname,prompt,negative_prompt
---- photo ----,,
Cinematic,"{prompt}, cinematic still, 35 mm",blurry
Küche: big,in a kitchen,
Only negative,,"bad, ugly"
"""


def test_a_table_of_a1111s_styles_is_a_group_of_styles(project: Project):
    project.write("conf/style/a1111.csv", STYLES)
    done = project.run("sweep", "-m", "subject=a fox", "style=glob(a1111/*)")
    assert done.code == 0, done.err
    assert {(row["style"], row["prompt"]) for row in project.rows()} == {
        ("a1111/Cinematic", "a fox, cinematic still, 35 mm"),
        ("a1111/Küche_ big", "a fox, in a kitchen"),
        ("a1111/Only negative", "a fox"),
    }
    assert project.run("sweep", "subject=a cat", "style=a1111/Küche_ big").code == 0
    assert project.rows()[0]["prompt"] == "a cat, in a kitchen"


def test_styles_of_a_table_are_listed_completed_and_suggested(project: Project):
    project.write("conf/style/a1111.csv", STYLES)
    out = project.run("styles", "a1111").out
    assert "a1111/Cinematic" in out
    assert "the negative prompt 'blurry' is not used" in out
    assert "photo ----" not in out
    wrong = project.run("sweep", "subject=a", "style=a1111/Cinematc")
    assert "Did you mean a1111/Cinematic" in wrong.err


def test_a_table_that_holds_no_styles_does_no_harm_until_it_is_chosen(project: Project):
    project.write("conf/style/other.csv", "id,words\n1,x\n")
    assert project.run("sweep", "subject=a", "style=noto", "--plan").code == 0
    assert "noto" in project.run("styles").out
    done = project.run("sweep", "subject=a", "style=other/x")
    assert done.code == 1
    assert "Traceback" not in done.err
