"""A project's own configs: tables of styles as A1111 keeps them."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from promptlab.configs.locations import packaged_conf
from promptlab.configs.own_files import keep_texts, read_styles, style_of
from promptlab.configs.vocabulary import find_options
from promptlab.errors import ConfigError
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


@pytest.mark.parametrize(
    ("text", "styles"),
    [
        ("name,prompt\nA,red\n", {"A": "{prompt}, red"}),  # without negative prompts
        ("name,prompt\nA,red\nA,blue\n", {"A": "{prompt}, red"}),  # as A1111, which keeps one
        ('name,prompt\nA,"red,\nblue"\n', {"A": "{prompt}, red,\nblue"}),
        ("name,prompt\n  A  ,  red  \n,blue\n", {"A": "{prompt}, red"}),
        ("name,prompt\nA/B: c,x {prompt} y\n", {"A_B_ c": "x {prompt} y"}),
        ("name,prompt,negative_prompt\nA,,bad\nB,,\n", {"A": "{prompt}"}),
        ("name,prompt\n", {}),
        ("", {}),
    ],
)
def test_a_table_is_read_as_its_author_meant_it(tmp_path: Path, text: str, styles: dict):
    file = tmp_path / "mine.csv"
    file.write_text(text)
    assert {name: style["pattern"] for name, style in read_styles(file).items()} == styles


@pytest.mark.parametrize("content", [b"id,words\n1,x\n", b"name\nA\n", b"\xff\xfe", None])
def test_a_file_that_is_no_table_of_styles_is_refused_by_its_name(tmp_path: Path, content):
    file = tmp_path / "mine.csv"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"mine\.csv"):
        read_styles(file)


def test_only_styles_have_tables(tmp_path: Path):
    for group in ("style", "template"):
        (tmp_path / group).mkdir()
        (tmp_path / group / "mine.csv").write_text("name,prompt\nA,red\n")
    assert style_of(tmp_path, "style/mine/A") is not None
    assert style_of(tmp_path, "style\\mine\\A") is not None  # as Windows has it
    for path in ("style/mine", "style/mine/B", "style/other/A", "template/mine/A", "style"):
        assert style_of(tmp_path, path) is None


def test_texts_are_kept_where_prompts_are_and_numbers_where_settings_are():
    text = (
        "subject: 1.50\nslot: 010\nseeds: 1_000\nlimit: 1_000\nname: 1e3\n"
        "model: {size: 1_0, guidance: 1.50}\nslots: {inner: 1.50}\nlist: [1.50]\n"
        "exclude: [{a: 010}]\nonly: [{b: [1.50, x]}]\n"
        "hydra: {sweeper: {params: {c: 1.50}, max_batch_size: 1_0}}\n"
    )
    config = OmegaConf.create(text)
    keep_texts(config, text)
    assert OmegaConf.to_container(config) == {
        **{"subject": "1.50", "slot": "010", "seeds": 1000, "limit": 1000, "name": "1e3"},
        **{"model": {"size": 10, "guidance": 1.5}, "slots": {"inner": 1.5}, "list": [1.5]},
        **{"exclude": [{"a": "010"}], "only": [{"b": ["1.50", "x"]}]},
        "hydra": {"sweeper": {"params": {"c": "1.50"}, "max_batch_size": 10}},
    }


def test_options_are_ones_own_before_the_packaged_and_flat_ones_come_first(project: Project):
    project.write("conf/style/noto.yaml", "pattern: mine {prompt}\n")
    project.write("conf/style/deep/er/one.yaml", "pattern: mine {prompt}\n")
    project.write("conf/style/tables.csv", "name,prompt\nA,red\n")
    project.write("conf/style/.hidden/no.yaml", "pattern: mine {prompt}\n")
    options = find_options("style")
    own = [name for name, option in options.items() if option.is_own]
    assert own == ["noto", "deep/er/one", "tables/A"]
    assert options["noto"].path == project.path / "conf" / "style" / "noto.yaml"
    names = list(options)
    assert names == sorted(names, key=lambda name: ("/" in name, name))
    assert len(options) > len(own)


def test_the_packaged_folder_itself_holds_nothing_of_ones_own(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(Path(packaged_conf()).parent)
    assert not any(option.is_own for option in find_options("style").values())
