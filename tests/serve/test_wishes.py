"""What a client may ask for: fields and lines become arguments that compose to nothing else."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promptlab.configs.hydra_app import compose_jobs
from promptlab.configs.settings import keys_of
from promptlab.errors import PromptlabError
from promptlab.planning.language import parse_pattern
from promptlab.serve.checks import (
    MAX_ARGUMENTS,
    MAX_CHARACTERS,
    MAX_MARKS,
    WishRefusedError,
    check,
)
from promptlab.serve.wishes import argv_of, line_of, with_other_seeds

ID = "0123456789abcdef"


@pytest.fixture(autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("project"))


REFUSED = [
    "model._target_=os.system",
    "_target_=os.system",
    "x={_target_:os.system}",
    "subject={_target_:os.system}",
    "model={_target_:os.system}",
    "+model._target_=x",
    "++model._target_=x",
    "++subject=x",
    "+x=1",
    "~model",
    "~store",
    "model.path=/etc/passwd",
    "model.device=cpu",
    "model@other=tiny",
    "model=../../evil",
    "model=/etc/passwd",
    "model=file:///etc/passwd",
    "model=https://evil.example/x",
    "model=glob(*)",
    "model=unknown",
    "model=null",
    "style=[noto,openmoji]",
    "style={pattern: x}",
    "style=../noto",
    "style=glob(../*)",
    "runs_dir=/tmp/x",
    "runs_dir=s3://bucket/x",
    "wildcards=/etc",
    "with=[Category]",
    "tracking=null",
    "tracking.uri=http://evil.example",
    "tracking={uri: x}",
    "store.embed_images=false",
    "report.pdf=true",
    "workers=slurm",
    "workers.num=9",
    "workers/hosts=x",
    "then=[upscale]",
    "upscale=animevideov3",
    "budget=1000",
    "allow_unknown_price=true",
    "limit=1000000",
    "score=[x]",
    "scorer=command",
    "until='x > 1'",
    "hydra.run.dir=/tmp/x",
    "hydra/launcher=joblib",
    "hydra.searchpath=[file:///tmp]",
    "hydra={run: x}",
    "sweeps=mine",
    "+sweeps=mine",
    "subject=@prompts.txt",
    "subject=[a,'@prompts.csv:x']",
    "subject=a,@prompts.txt",
    "subject=choice(a,'@prompts.txt')",
    "action=@actions.txt",
    "template.pattern=@patterns.txt",
    "subject=${oc.env:HOME}",
    "subject='${oc.env:HOME}'",
    r"subject=$\{oc.env:HOME\}",
    "action=${oc.env:HOME}",
    "zip=[['${oc.env:HOME}']]",
    "lora=../x.safetensors",
    "lora=/x.safetensors",
    "lora=~/x.safetensors",
    "lora=.ssh",
    "image=https://evil.example/x.png",
    "image=//evil.example/x",
    r"image=C:\x",
    "image=x:y",
    "3.image=x.png",
    "steps={a: 1}",
    "steps=[1]",
    "seeds={a: 1}",
    "seeds=auto",
    "seeds=@x.txt",
    "parent=../x",
    "parent=nothing",
    "name=../../x",
    "name=/x",
    "name='a\nb'",
    "reuse=perhaps",
    "subject='a\x00b'",
    "subject='a\x1bb'",
    "subject='\ud800'",
    "--resume",
    "--cfg=job",
    "--config-dir=/tmp",
    "-cd=/tmp",
    "--multirun=1",
    "--from-picks=/tmp/x",
    "--from-images=../x",
    "--from-images=",
    "-p",
    "--",
    f"subject={'1' * 5000}",
    "subject",
    "=x",
    "",
]


@pytest.mark.parametrize("argument", REFUSED)
def test_what_is_not_known_to_be_harmless_is_refused(argument: str) -> None:
    with pytest.raises(WishRefusedError):
        check(["subject=x", argument])


ACCEPTED = [
    "subject=a fox, running: 3/4 view",
    "subject='{red|blue} fox with __animal__'",
    "subject=a,b",
    "subject=' @home'",
    "subject=[a,b]",
    "template=cctv",
    "template.pattern='two of {subject}'",
    "style=noto,art/ukiyo_e",
    "style=glob(*)",
    "style=glob(art/*,exclude=art/m*)",
    "model=tiny",
    "action='robbing a bank / a shop'",
    "animal='red fox, blue fox'",
    "negative_prompt='blurry: 1/2 @home'",
    "temperature=0.5,1",
    "temperature=range(0,1,0.2)",
    "top_k=null",
    "scheduler=euler",
    "lora=ink.safetensors",
    "seeds=8",
    "seeds=[3,5]",
    "seeds=0-63",
    "seeds='0-3,10'",
    f"parent={ID}",
    "name=evening ideas",
    "reuse=false",
    "zip=[[subject,style]]",
    "exclude=[{style: noto}]",
    "sample={animal: 20}",
    f"--from-images={ID},{ID}",
    "-m",
]


@pytest.mark.parametrize("argument", ACCEPTED)
def test_what_a_cell_may_hold_is_accepted(argument: str) -> None:
    assert check(["subject=x", argument]) == ("subject=x", argument)


@pytest.mark.parametrize(
    ("wish", "argv"),
    [
        ({"subject": "a fox"}, ("subject=a fox",)),
        (
            {"subjects": ["a fox", "a, b"], "styles": ["noto", "none"], "seeds": 4},
            ("-m", 'subject=a fox,"a, b"', "style=noto,none", "seeds=4"),
        ),
        (
            {"subject": "x", "model": "tiny", "params": {"temperature": [0.5, 1], "top_k": None}},
            ("-m", "subject=x", "model=tiny", "temperature=0.5,1", "top_k=null"),
        ),
        (
            {"prompt": "x", "seeds": [3, 5]},
            ("subject=x", "template=plain", "style=none", "seeds=[3,5]"),
        ),
        (
            {"model": "animevideov3", "parents": [ID]},
            ("model=animevideov3", f'parent="{ID}"'),
        ),
        ({"images": [ID], "seeds": 8}, (f"--from-images={ID}", "seeds=8")),
        (
            {"line": "promptlab sweep -m subject='a, b' style=noto"},
            ("-m", "subject=a, b", "style=noto"),
        ),
        ({"line": "subject=x \\\n  seeds=2"}, ("subject=x", "seeds=2")),
    ],
)
def test_a_wish_becomes_arguments(wish: dict[str, Any], argv: tuple[str, ...]) -> None:
    assert argv_of(wish) == argv


@pytest.mark.parametrize(
    "wish",
    [
        {},
        {"subject": ""},
        {"subject": 5},
        {"subject": []},
        {"subject": {"a": 1}},
        {"subject": "x", "prompt": "y"},
        {"prompt": "x", "template": "cctv"},
        {"subject": "x", "runs_dir": "/tmp"},
        {"subject": "x", "params": {"runs_dir": "/tmp"}},
        {"subject": "x", "params": {"model.path": "/tmp"}},
        {"subject": "x", "params": {"a=b": 1}},
        {"subject": "x", "params": {"x": {"_target_": "os.system"}}},
        {"subject": "x", "params": {"-m": 1}},
        {"subject": "x", "params": [1]},
        {"subject": "x", "seeds": 1.5},
        {"subject": "x", "seeds": "1,subject=y"},
        {"subject": "x", "name": "../x"},
        {"images": ["../x"]},
        {"line": "promptlab sweep 'subject=x"},
        {"line": "promptlab report x"},
        {"line": "subject=x; rm -rf /"},
        {"line": "subject=x", "seeds": 3},
        {"line": ["subject=x"]},
    ],
)
def test_a_wish_that_is_none_is_refused(wish: dict[str, Any]) -> None:
    with pytest.raises(WishRefusedError):
        argv_of(wish)


@pytest.mark.parametrize(
    "wish",
    [
        {"subject": "x" * MAX_CHARACTERS},
        {"line": f"subject={'x' * MAX_CHARACTERS}"},
        {"line": f"x=[{'a,' * MAX_MARKS}a]"},
        {"subjects": ["a"] * MAX_MARKS},
        {"prompt": "\\" * MAX_MARKS},
        {"subject": "x", "params": {f"x{n}": 1 for n in range(MAX_ARGUMENTS)}},
    ],
)
def test_what_would_take_long_to_read_is_not_read(
    wish: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hydra's parser takes minutes for a list of 20,000 values."""
    monkeypatch.delattr("promptlab.serve.checks._check_argument")
    with pytest.raises(WishRefusedError, match="at most"):
        argv_of(wish)


@pytest.mark.parametrize(
    ("own", "asked", "expected"),
    [
        ("seeds=4", None, "seeds=4-7"),
        ("seeds=[3,9]", None, "seeds=10-11"),
        ("seeds=2-5", None, "seeds=6-9"),
        ("seeds='0-1,7'", None, "seeds=8-10"),
        ("style=noto", None, "seeds=1-1"),
        (f"seeds=[{2**63 - 1}]", None, f"seeds={2**63 - 1}-{2**63 - 1}"),
        ("seeds=4", [7], "seeds=[7]"),
    ],
)
def test_other_seeds_are_as_many_and_come_next(own: str, asked: Any, expected: str) -> None:
    assert with_other_seeds(["subject=x", own], asked)[-1] == expected


NASTY = st.text(
    st.sampled_from(list("ab {}|_$@\\'\",=:[]()/~+-#*?;&<>%!\n\u00e9\U0001f98a0")), max_size=25
)


@settings(max_examples=4)
@given(prompts=st.lists(NASTY.filter(str.strip), min_size=8, max_size=8, unique=True))
def test_whole_prompts_are_drawn_as_they_were_written(prompts: list[str]) -> None:
    """Through the line, Hydra and the sweep language."""
    argv = argv_of({"prompts": prompts})
    assert argv_of({"line": line_of(argv)}) == argv
    patterns = [parse_pattern(job.config["subject"]) for job in compose_jobs(argv)]
    assert ["".join(item.text for item in pattern.items) for pattern in patterns] == prompts  # type: ignore[union-attr]


def test_a_line_is_the_same_in_a_shell_and_in_the_page() -> None:
    argv = argv_of({"prompt": 'it\'s "so" $5 `x`\n\ttwo \\ {a|b} é🦊 \\x41'})
    line = line_of(argv)
    script = line.replace("promptlab sweep", r"printf '%s\0'", 1)
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True)
    assert tuple(done.stdout.decode().split("\0")[:-1]) == argv
    assert argv_of({"line": line}) == argv


KEYS = st.sampled_from(
    [
        *("subject", "style", "model", "template", "seeds", "name", "parent", "x", "temperature"),
        *("action", "runs_dir", "model._target_", "model.name", "hydra.run.dir", "workers"),
        *("template.pattern", "style.pattern", "zip", "tracking.uri", "store", "model@x", "reuse"),
    ]
)
VALUES = st.one_of(
    NASTY,
    st.sampled_from(
        [
            *("tiny", "noto", "tiny,min_dalle_mini", "glob(*)", "${runs_dir}", r"$\{runs_dir\}"),
            *(
                "{_target_: x}",
                "[a,{_target_: x}]",
                "'${runs_dir}'",
                r'"\${runs_dir}"',
                "3",
                "null",
            ),
            *("@/etc/hostname", "'@x.txt'", "choice(a,b)", "range(3)", "true", "../x", r"\\${x}"),
        ]
    ),
)
ARGUMENTS = st.builds(
    "{}{}={}".format, st.sampled_from(["", "", "", "", "+", "++", "~", "--"]), KEYS, VALUES
)
FIXED = ("runs_dir", *keys_of("stage"), "then", "budget", "limit", "score", "wildcards", "upscale")


@cache
def own_config(model: str) -> Mapping[str, Any]:
    (job,) = compose_jobs(["subject=x", f"model={model}"])
    return job.config


def check_harmless(arguments: list[str], is_multirun: bool) -> None:
    """Only subject, patterns, options, parameters and seeds differ from the owner's own configs."""
    try:
        argv = check([*(["-m"] if is_multirun else []), "subject=x", *arguments])
        jobs = compose_jobs(argv)
    except PromptlabError:
        return
    for job in jobs:
        own = own_config(str(job.choices["model"]))
        for key in ("model", *FIXED):
            assert job.config.get(key) == own.get(key)
        for value in job.config.values():
            assert not str(value).startswith("@")
            assert value != "runs" or value is job.config["runs_dir"]


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(arguments=st.lists(ARGUMENTS, max_size=3), is_multirun=st.booleans())
def test_what_passes_composes_to_nothing_but_cells(arguments: list[str], is_multirun: bool) -> None:
    check_harmless(arguments, is_multirun)


@pytest.mark.slow
@settings(max_examples=1500, suppress_health_check=[HealthCheck.too_slow])
@given(arguments=st.lists(ARGUMENTS, max_size=3), is_multirun=st.booleans())
def test_what_passes_composes_to_nothing_but_cells_however_long_one_tries(
    arguments: list[str], is_multirun: bool
) -> None:
    check_harmless(arguments, is_multirun)


def test_words_of_a_line_are_those_of_a_shell() -> None:
    line = "promptlab sweep -m subject='a fox,a robot' 'style=glob(*)' seeds=4"
    assert argv_of({"line": line}) == tuple(shlex.split(line)[2:])
