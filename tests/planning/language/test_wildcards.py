"""Lists of values by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from promptlab.models.registry import packaged_words
from promptlab.planning.language import (
    Grid,
    GridOptions,
    JobPattern,
    PatternError,
    Wildcards,
    parse_pattern,
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "wildcards"
    (folder / "pets").mkdir(parents=True)
    (folder / "animal.txt").write_text(
        "# animals\n\ncat\n  dog \ncat\n\\# sign\n", encoding="utf-8-sig"
    )
    (folder / "colour.yaml").write_text("- red\n- 7\n")
    (folder / "pets" / "tame.yaml").write_text("cats: [tom]\ndogs:\n  big: [rex]\n  small: [toy]\n")
    (folder / "pets" / "wild.txt").write_text("a __colour__ wolf\na {big|small} lynx\n")
    return tmp_path


def prompts(project: Path, text: str) -> list[str]:
    job = JobPattern(parse_pattern(text), {}, {})
    wildcards = Wildcards((project / "wildcards",))
    return [p.prompt for p in Grid([job], GridOptions.parse(), wildcards).points()]


def test_a_text_file_gives_one_value_a_line_without_comments_and_repeats(project):
    assert prompts(project, "__animal__") == ["cat", "dog", "# sign"]


def test_a_yaml_file_gives_a_list_or_nested_lists_by_key(project):
    assert prompts(project, "__colour__") == ["red", "7"]
    assert prompts(project, "__pets/tame/cats__") == ["tom"]
    assert prompts(project, "__pets/tame/dogs__") == ["rex", "toy"]
    assert prompts(project, "__pets/tame__") == ["tom", "rex", "toy"]


def test_a_key_means_its_own_lists_and_not_those_whose_names_begin_like_it(project):
    (project / "wildcards" / "farm.yaml").write_text(
        "cat: {old: [tom], young: [kit]}\ncattle: [cow]\n"
    )
    assert prompts(project, "__farm/cat__") == ["tom", "kit"]


def test_one_star_stays_within_a_level_and_two_cross_it(project):
    top = ["cat", "dog", "# sign", "red", "7"]
    tame = ["tom", "rex", "toy"]
    wild = ["a red wolf", "a 7 wolf", "a big lynx", "a small lynx"]
    assert prompts(project, "__*__") == top
    assert prompts(project, "__pets/*__") == [*tame, *wild]
    assert prompts(project, "__pets/tame/*s__") == tame
    assert prompts(project, "__pets/w*__") == wild
    assert prompts(project, "__**/wild__") == wild
    assert sorted(prompts(project, "__**__")) == sorted([*top, *tame, *wild])
    for nothing in ("__*/big__", "__p*e__", "__*/tame/*/*/*__"):
        with pytest.raises(PatternError):
            prompts(project, nothing)


def test_a_value_of_a_yaml_list_is_the_text_that_was_written(project):
    items = ["16:9", "010", "1.50", "1e3", "yes", "TRUE", "0x10", "1_000", "2026-11-28", "null"]
    (project / "wildcards" / "ratio.yaml").write_text("".join(f"- {item}\n" for item in items))
    assert prompts(project, "__ratio__") == items


def test_a_key_may_be_empty_and_space_around_a_value_is_not_part_of_it(project):
    (project / "wildcards" / "farm.yaml").write_text('cats:\ndogs: [" rex "]\n')
    assert prompts(project, "__farm__") == ["rex"]


def test_a_file_in_a_folder_is_found_beside_a_file_of_the_folders_name(project):
    (project / "wildcards" / "pets.yaml").write_text("wild: [x]\nfish: [y]\n")
    assert prompts(project, "__pets/wild__")[0] == "a red wolf"
    assert prompts(project, "__pets/fish__") == ["y"]


def test_a_list_of_a_model_whose_file_is_gone_is_none(tmp_path):
    assert Wildcards(files={"words": tmp_path / "words.txt"}).list_names() == []


def test_lists_within_lists_end_somewhere(project):
    lists = "".join(f"n{i}: [x __deep/n{i + 1}__]\n" for i in range(400))
    (project / "wildcards" / "deep.yaml").write_text(lists + "n400: [y]\n")
    assert prompts(project, "__deep/n350__") == ["x " * 50 + "y"]
    with pytest.raises(PatternError, match="nested too deeply"):
        prompts(project, "__deep/n0__")


def test_a_key_that_stands_twice_is_an_error(project):
    (project / "wildcards" / "twice.yaml").write_text("a: [x]\nb: [y]\na: [z]\n")
    with pytest.raises(PatternError, match=r"twice\.yaml: .*'a' appears twice"):
        prompts(project, "__twice/a__")


def test_keys_may_hold_slashes_and_spaces(project):
    (project / "wildcards" / "umi.yaml").write_text(
        "Vision/Background:\n  - a wall\nhair colour:\n  dark brown: [umber]\n"
    )
    assert prompts(project, "__umi/Vision/Background__") == ["a wall"]
    assert prompts(project, "__umi/Vision__") == ["a wall"]
    assert prompts(project, "__umi/hair colour/dark brown__") == ["umber"]
    assert prompts(project, "__umi/**__") == ["a wall", "umber"]


def test_hidden_files_and_what_macos_adds_are_no_lists(project):
    for name in (
        "._animal.txt",
        ".ipynb_checkpoints/animal.txt",
        "__MACOSX/animal.txt",
        ".x/y.yaml",
    ):
        file = project / "wildcards" / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"\xff\xfe")
    names = Wildcards((project / "wildcards",)).list_names()
    assert names[0] == "animal"
    assert not any("checkpoints" in name or "MACOSX" in name or "._" in name for name in names)
    assert prompts(project, "__**/animal__") == ["cat", "dog", "# sign"]


def test_a_file_that_nobody_asked_for_is_a_warning_and_what_was_asked_for_an_error(project, caplog):
    (project / "wildcards" / "invalid.yaml").write_text("hello")
    assert prompts(project, "__co*__") == ["red", "7"]
    assert "invalid.yaml: expected lists of values" in caplog.text
    with pytest.raises(PatternError, match=r"invalid\.yaml"):
        prompts(project, "__invalid__")


def test_a_line_of_a1111s_prompts_from_file_is_refused_with_its_prompt(project):
    (project / "wildcards" / "jobs.txt").write_text('a cat\n--prompt "a fox, red" --steps 10\n')
    with pytest.raises(PatternError, match=r"line 2: .*one a line: a fox, red\.") as caught:
        prompts(project, "__jobs__")
    assert "temperature=0.5" in str(caught.value)


def test_globs_join_the_lists_that_they_match(project):
    assert prompts(project, "__pets/*__")[:3] == ["tom", "rex", "toy"]
    assert prompts(project, "__pets/tame/*s__") == ["tom", "rex", "toy"]
    assert prompts(project, "__**/big__") == ["rex"]
    assert prompts(project, "__co*__") == ["red", "7"]


def test_values_may_hold_wildcards_and_alternatives(project):
    assert prompts(project, "__pets/wild__") == [
        "a red wolf",
        "a 7 wolf",
        "a big lynx",
        "a small lynx",
    ]


def test_the_same_wildcard_twice_is_one_axis_and_names_make_two(project):
    assert prompts(project, "__colour__ and __colour__") == ["red and red", "7 and 7"]
    assert len(prompts(project, "{a: __colour__} and {b: __colour__}")) == 4


def test_a_choice_may_take_several_values_of_a_wildcard(project):
    assert prompts(project, "{2$$ and $$__animal__}") == [
        "cat and dog",
        "cat and # sign",
        "dog and # sign",
    ]


def test_of_several_files_of_one_name_the_nearest_is_the_list_and_a_text_file_before_others(
    tmp_path,
):
    """Each step adds a file that comes before those of the steps before it."""
    files = {}
    for place in ("model/beast.txt", "extra/beast.yaml", "extra/beast.txt"):
        write_list(tmp_path / place, place)
        files["beast"] = tmp_path / "model" / "beast.txt"
        assert listed(tmp_path, files) == [place]
    for suffix in ("yaml", "txt"):
        place = f"wildcards/beast.{suffix}"
        write_list(tmp_path / place, place)
        assert listed(tmp_path, files) == [place]


def write_list(file: Path, value: str) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"- {value}\n" if file.suffix != ".txt" else f"{value}\n")


def listed(folder: Path, files: dict[str, Path]) -> list[str]:
    extra = [path for path in [folder / "extra"] if path.is_dir()]
    wildcards = Wildcards.of_project(folder, *extra, files=files)
    job = JobPattern(parse_pattern("__beast__"), {}, {})
    return [point.prompt for point in Grid([job], GridOptions.parse(), wildcards).points()]


def test_a_project_shadows_the_package(project):
    wildcards = Wildcards.of_project(project)
    assert "colour" in wildcards.list_names()
    job = JobPattern(parse_pattern("__colour__"), {}, {})
    assert Grid([job], GridOptions.parse(), wildcards).count().num_points == 2


def test_every_packaged_list_can_be_read_and_has_values(tmp_path):
    wildcards = Wildcards.of_project(tmp_path, files=packaged_words())
    names = wildcards.list_names()
    assert names
    for name in names:
        job = JobPattern(parse_pattern(f"__{name}__"), {}, {})
        points = list(Grid([job], GridOptions.parse(), wildcards).points())
        assert len({p.prompt for p in points}) == len(points) > 1


def test_the_subjects_of_the_embedded_model_are_a_packaged_list(tmp_path):
    wildcards = Wildcards.of_project(tmp_path, files=packaged_words())
    job = JobPattern(parse_pattern("__tiny/subjects__"), {}, {})
    assert Grid([job], GridOptions.parse(), wildcards).count().num_points > 100


def test_an_extra_folder_must_exist(tmp_path):
    with pytest.raises(PatternError, match="expected a folder"):
        Wildcards.of_project(tmp_path, tmp_path / "none")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a __anmal__", "Did you mean __animal__"),
        ("__zzz__", "There are: animal, colour, pets/tame/cats"),
        ("__nothing/*__", "no list is called"),
        ("__pets/tame/fish__", "no list is called"),
        ("__a/../../etc/passwd__", "no list is called"),
    ],
)
def test_a_missing_list_is_an_error_with_the_known_ones(project, text, words):
    with pytest.raises(PatternError, match="no list is called") as caught:
        prompts(project, text)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.txt", "# nothing\n\n", "has no values"),
        ("empty.yaml", "[]", "has no values"),
        ("bad.txt", "ok\na {red|blue fox\n", "bad.txt, line 2, column 3: this { is never closed"),
        ("heavy.txt", "2::cat\n", "weights"),
        ("broken.yaml", "a: [", "not valid YAML"),
        ("text.yaml", "just text", "expected lists of values"),
        ("deep.yaml", "- {a: b}", "expected a text"),
        ("bytes.txt", b"caf\xe9", "expected UTF-8"),
        ("self.txt", "a __self__\n", "self → self"),
    ],
)
def test_a_list_that_cannot_be_used_says_which_and_why(project, name, content, words):
    file = project / "wildcards" / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(PatternError) as caught:
        prompts(project, f"__{name.split('.')[0]}__")
    assert words in str(caught.value)


def test_a_circle_of_lists_is_an_error(project):
    (project / "wildcards" / "a.txt").write_text("__b__\n")
    (project / "wildcards" / "b.txt").write_text("x\n__a__\n")
    with pytest.raises(PatternError, match="a → b → a"):
        prompts(project, "__a__")
