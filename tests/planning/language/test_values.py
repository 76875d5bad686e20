"""What a config key may hold: texts, lists, numbers, files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from promptlab.planning.language import (
    Choice,
    Pattern,
    PatternError,
    read_carried,
    read_value,
)

PARTI_PROMPTS = Path(__file__).parents[4] / "shared" / "data" / "PartiPrompts.tsv"
NASTY = ['say "hi", {x|y} __a__', "50 % | $5 \\ #1", "ünïcödé 🦊", "@home", '"open" signs']


def texts(pattern: Pattern | None) -> list[str]:
    assert pattern is not None
    match pattern.items:
        case (Choice(alternatives),):
            return [alternative.text for alternative in alternatives]
    return [pattern.text]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"id": i, "prompt": text} for i, text in enumerate([*NASTY, ""])]
    with (tmp_path / "t.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["id", "prompt"])
        writer.writeheader()
        writer.writerows(rows)
    tsv = ["id\tprompt", *(f"{row['id']}\t{row['prompt']}" for row in rows)]
    (tmp_path / "t.tsv").write_text("\n".join(tsv), encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    (tmp_path / "t.json").write_text(json.dumps(rows))
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, NASTY)))
    (tmp_path / "one.csv").write_text("prompt\na\nb\n")
    (tmp_path / "s.txt").write_text("# subjects\na fox, red\n\na {big|small} dog\n\\# sign\n")
    return tmp_path


def test_a_text_is_a_pattern_and_a_number_is_its_own_text():
    assert str(read_value("subject", "a {red|blue} fox")) == "a {red|blue} fox"
    assert texts(read_value("n", 3)) == ["3"]
    assert texts(read_value("n", 0.5)) == ["0.5"]
    assert texts(read_value("n", True)) == ["true"]
    assert read_value("n", None) is None
    assert read_value("n", "???") is None


def test_a_list_is_a_choice_of_its_items_and_commas_are_ordinary_characters():
    assert texts(read_value("subject", ["a fox, red", "b", 3])) == ["a fox, red", "b", "3"]
    assert texts(read_value("subject", ["only"])) == ["only"]
    assert texts(read_value("subject", ["a", None, "b"])) == ["a", "b"]


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.parquet", "t.jsonl", "t.json"])
def test_a_column_of_a_table_gives_its_values_as_they_are(folder, name):
    assert texts(read_value("subject", f"@{name}:prompt", folder)) == NASTY
    assert texts(read_value("subject", f"@{folder / name}:prompt")) == NASTY
    assert texts(read_value("subject", f"@{name}:id", folder)) == list(
        map(str, range(len(NASTY) + 1))
    )


def test_a_files_suffix_may_be_in_capitals(folder):
    (folder / "LIST.CSV").write_text("prompt\na\nb\n")
    assert texts(read_value("subject", "@LIST.CSV:prompt", folder)) == ["a", "b"]


def test_a_table_of_one_column_and_json_lines_of_texts_need_no_column(folder):
    assert texts(read_value("subject", "@one.csv", folder)) == ["a", "b"]
    assert texts(read_value("subject", "@list.jsonl", folder)) == NASTY


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("semicolon.csv", 'id;prompt\n1;a fox, red\n2;"a; b"\n'),
        ("tab.csv", 'id\tprompt\n1\ta fox, red\n2\t"a; b"\n'),
        ("comma.csv", 'id,prompt\n1,"a fox, red"\n2,a; b\n'),
        ("windows.csv", 'id;prompt\r\n1;a fox, red\r\n2;"a; b"\r\n'),
        ("a;b.csv", 'id; no,prompt\n1;0,"a fox, red"\n2,a; b\n'),  # in doubt a comma
        ("a\tb.csv", 'id;the\tname;prompt\n1;x;a fox, red\n2;\t;"a; b"\n'),
    ],
)
def test_the_header_says_what_separates_a_tables_cells(folder, name, text):
    (folder / name).write_bytes(text.encode())
    assert texts(read_value("subject", f"@{name}:prompt", folder)) == ["a fox, red", "a; b"]


def test_numbers_of_a_json_table_are_the_texts_that_were_written(folder):
    (folder / "n.json").write_text('[{"a": 1.50}, {"a": 1e3}, {"a": 10}, {"a": NaN}]')
    assert texts(read_value("n", "@n.json:a", folder)) == ["1.50", "1e3", "10", "NaN"]


def test_a_text_file_gives_patterns_without_comments_and_blank_lines(folder):
    pattern = read_value("subject", "@s.txt", folder)
    assert str(pattern) == "{a fox, red|a {big|small} dog|# sign}"


def test_a_line_ends_where_a_file_says_so_and_nowhere_else(folder):
    (folder / "l.txt").write_text("a\u2028b\x0cc\r\n  # no value\nd\n", encoding="utf-8")
    assert texts(read_value("n", "@l.txt", folder)) == ["a\u2028b\x0cc", "d"]
    (folder / "l.jsonl").write_text('{"a": "b\u2028c"}\n{"a": "d"}\n', encoding="utf-8")
    assert texts(read_value("n", "@l.jsonl:a", folder)) == ["b\u2028c", "d"]


def test_empty_cells_are_no_values_and_space_around_a_value_is_not_part_of_it(folder):
    import pyarrow as pa
    import pyarrow.parquet as pq

    (folder / "e.jsonl").write_text('{"b": 1}\n{"a": null}\n{"a": " "}\n{"a": " x\\t"}\n{"a": 0}\n')
    assert texts(read_value("n", "@e.jsonl:a", folder)) == ["x", "0"]
    (folder / "e.csv").write_text("id,a\n1\n2, x \n3,  \n")
    assert texts(read_value("n", "@e.csv:a", folder)) == ["x"]
    pq.write_table(pa.table({"a": [None, 1234567.5, 0.1]}), folder / "e.parquet")
    assert texts(read_value("n", "@e.parquet", folder)) == ["1234567.5", "0.1"]


def test_a_path_may_begin_at_home_and_end_with_a_space(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    assert texts(read_value("subject", "@~/one.csv ")) == ["a", "b"]


@pytest.mark.parametrize("name", ["c.CSV", "c.jsonl", "c.parquet"])
def test_further_columns_stand_beside_the_first_row_of_a_text(folder, name):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"p": " a ", "n": 1}, {"p": "a", "n": 2}, {"p": "b", "n": 3}]
    (folder / "c.CSV").write_text("p,n\n" + "".join(f"{r['p']},{r['n']}\n" for r in rows))
    (folder / "c.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pq.write_table(pa.Table.from_pylist(rows), folder / "c.parquet")
    assert read_carried(f"@{name}:p", ["n", "p"], folder) == {
        "a": {"n": "1", "p": " a "},
        "b": {"n": "3", "p": "b"},
    }
    with pytest.raises(PatternError, match="no column 'q'"):
        read_carried(f"@{name}:p", ["q"], folder)


def test_what_is_no_table_has_no_further_columns(folder):
    for value in ("a fox", "@s.txt", None, ["@t.csv:id"]):
        assert read_carried(value, ["n"], folder) == {}


def test_files_may_stand_in_a_list(folder):
    assert str(read_value("subject", ["x", "@one.csv"], folder)) == "{x|{a|b}}"


def test_a_value_that_begins_with_an_escaped_at_sign_is_a_text():
    assert texts(read_value("subject", r"\@home")) == ["@home"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("@t.csv", "which column? Columns: id, prompt. Write @"),
        ("@t.csv:Prompt", "there is no column 'Prompt'. Columns: id, prompt"),
        ("@t.parquet:x", "there is no column 'x'. Columns: id, prompt"),
        ("@t.jsonl", "which column? Columns: id, prompt"),
        ("@no.csv:prompt", "In {folder} there are: one.csv, t.csv"),
        ("@nowhere/no.csv:prompt", "Nor is there a folder"),
        ("@home", "no kind of file known here. Known: .txt, .csv"),
        ("@s.doc", "write \\@ first"),
        ("@s.txt:x", "a text file has no column 'x'"),
        ("@empty.txt", "no values"),
        ("@broken.jsonl:a", "broken.jsonl, line 2: not valid JSON"),
        ("@broken.parquet:a", "cannot be read as Parquet"),
        ("@bytes.txt", "expected UTF-8"),
        ("@nested.jsonl:a", "Expected texts"),
        ("@object.json:a", "expected a list"),
        (["@empty.txt", "a"], "no values"),
        ([], "expected a text"),
        ("@wide.csv:prompt", "wide.csv, line 3: 3 cells, expected at most the 2 of the header"),
        ("@wide_one.csv", "wide_one.csv, line 2: 2 cells"),
        ("@wide.tsv:prompt", "wide.tsv, line 2: 3 cells"),
        ("@unclosed.csv", "unclosed.csv, line 3: unexpected end of data"),
        ("--prompt 'a fox' --steps 10", "one a line: a fox."),
        ({"colour": "red|blue"}, "'subject=\"{colour: red|blue}\"'"),
    ],
)
def test_what_cannot_be_read_says_what_there_is(folder, value, words):
    (folder / "empty.txt").write_text("# nothing\n")
    (folder / "wide.csv").write_text("id,prompt\n1,a fox\n2,a fox, red\n")
    (folder / "wide_one.csv").write_text("prompt\na fox, red\n")
    (folder / "wide.tsv").write_text("id\tprompt\n1\ta\tfox\n")
    (folder / "broken.jsonl").write_text('{"a": 1}\n{"a":\n')
    (folder / "unclosed.csv").write_text('prompt\n"a fox\na dog\n')
    (folder / "broken.parquet").write_bytes(b"PAR1")
    (folder / "bytes.txt").write_bytes(b"\xff\xfe")
    (folder / "nested.jsonl").write_text('{"a": [1]}\n')
    (folder / "object.json").write_text('{"a": [1]}\n')
    with pytest.raises(PatternError) as caught:
        read_value("subject", value, folder)
    assert words.replace("{folder}", str(folder)) in str(caught.value)


@pytest.mark.skipif(not PARTI_PROMPTS.exists(), reason="PartiPrompts.tsv is not at hand")
def test_each_of_1632_parti_prompts_is_a_value_without_a_quoting_problem():
    with PARTI_PROMPTS.open(encoding="utf-8", newline="") as file:
        expected = [line.split("\t")[0].strip() for line in file][1:]
    assert texts(read_value("subject", f"@{PARTI_PROMPTS}:Prompt")) == expected
    assert len(set(expected)) == 1632
