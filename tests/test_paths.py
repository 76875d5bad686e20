"""File names are readable, safe and unique, whatever the prompt holds."""

from hypothesis import given
from hypothesis import strategies as st

from promptlab.paths import MAX_SLUG_LENGTH, RunPaths, image_path, slugify
from promptlab.planning.seeds import MAX_SEED


@given(st.text(max_size=300))
def test_a_slug_is_never_empty_hidden_or_a_path(text):
    slug = slugify(text)
    assert 0 < len(slug) <= MAX_SLUG_LENGTH
    assert set(slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert not slug.startswith("-")
    assert not slug.endswith("-")


def test_an_image_path_says_what_is_in_it():
    path = image_path("Yoda robbing a liquor store, CCTV!", 7, "0123456789abcdef")
    assert path == "images/yoda-robbing-a-liquor-store-cctv_s7_0123456789abcdef.png"


def test_accents_are_kept_as_their_letters():
    assert slugify("Café Müller") == "cafe-muller"


def test_a_run_folder_may_be_a_path_or_a_url():
    assert RunPaths("runs/a/").part(3) == "runs/a/images.parquet/part-000003.parquet"
    assert RunPaths("s3://bucket/runs/a").name == "a"


def test_a_slug_that_is_cut_at_a_space_does_not_end_in_a_hyphen():
    assert slugify("a" * (MAX_SLUG_LENGTH - 1) + " fox") == "a" * (MAX_SLUG_LENGTH - 1)


def test_a_file_name_fits_every_file_system_with_room_for_writing_aside():
    name = image_path("very " * 100, MAX_SEED, "0" * 16).removeprefix("images/")
    assert len(f".{name}.tmp") <= 143  # encrypted home folders take the least


def test_the_files_of_a_run_folder_are_called_as_those_of_all_runs_before():
    paths = RunPaths("run")
    assert [
        *(paths.sweep_yaml, paths.images, paths.images_parquet, paths.picks_parquet),
        *(paths.scores_parquet, paths.index_html, paths.contact_sheet_png, paths.log, paths.lock),
    ] == [
        *("run/sweep.yaml", "run/images", "run/images.parquet", "run/picks.parquet"),
        *("run/scores.parquet", "run/index.html", "run/contact_sheet.png", "run/sweep.log"),
        "run/.lock",
    ]
