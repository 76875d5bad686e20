"""Scorers of others: CLIP folders, linear heads, text recognition, a judge, a command."""

import http.server
import json
import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from promptlab.commands.score import describe
from promptlab.errors import ConfigError, ModelError, WeightsMissingError
from promptlab.scores.command import CommandScorer
from promptlab.scores.judge import MAX_QUESTIONS, Judge
from promptlab.scores.protocol import Item, Score
from promptlab.scores.scoring import Tally, score_run
from promptlab.scores.text_in_image import TextInImage, likeness, quoted_text
from tests.report.runs import make_run
from tests.scores.scorers import flat, noise


def item(pixels: np.ndarray, prompt: str = "a fox", image_id: str = "0" * 16) -> Item:
    return Item({"image_id": image_id, "prompt": prompt}, pixels)


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory) -> Path:
    """A CLIP of random weights, one token a letter, as transformers saves it."""
    if find_spec("transformers") is None:
        pytest.skip("no transformers")
    import torch

    from promptlab.models.diffusers.libraries import import_transformers

    transformers = import_transformers()

    from tests.models.diffusers.tiny_pipelines import letters

    folder = tmp_path_factory.mktemp("clip")
    vocab = letters("<|startoftext|>", "<|endoftext|>")
    sizes = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    tokens = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    config = transformers.CLIPConfig(
        text_config={"vocab_size": len(vocab), "max_position_embeddings": 77, **sizes, **tokens},
        vision_config={"image_size": 32, "patch_size": 8, **sizes},
        projection_dim=12,
    )
    torch.manual_seed(0)
    transformers.CLIPModel(config).save_pretrained(folder)
    tokenizer = transformers.CLIPTokenizer(vocab=vocab, merges=[], model_max_length=77)
    images = transformers.CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    transformers.CLIPProcessor(images, tokenizer).save_pretrained(folder)
    return folder


def test_a_clip_folder_scores_the_cosine_of_image_and_prompt(clip_folder, tmp_path):
    from promptlab.scores.clip import ClipMatch, ClipVectors

    root = make_run(tmp_path / "a", subjects=("a fox", "a robot"), styles=("noto",))
    scorer = ClipMatch(str(clip_folder))
    (tally,) = score_run(root, [scorer])
    assert (tally.num_scored, tally.num_failed) == (4, 0)
    (tally,) = score_run(root, [ClipMatch(str(clip_folder))])
    assert tally.num_known == 4
    vectors = ClipVectors(str(clip_folder))
    vectors.load()
    image = vectors.embed([noise(1), noise(2, 48)])
    assert image.shape == (2, 12)
    assert np.linalg.norm(image, axis=1) == pytest.approx([1, 1])
    alone = vectors.embed([noise(2, 48)])
    np.testing.assert_allclose(alone[0], image[1], atol=1e-5)
    texts = vectors.read(["a fox", "a robot"])
    assert not np.allclose(texts[0], texts[1])


def test_a_linear_head_is_weights_and_bias_on_the_vectors(clip_folder, tmp_path):
    from safetensors.numpy import save_file

    from promptlab.scores.clip import LinearHead

    weight = np.arange(12, dtype=np.float32)
    save_file({"weight": weight[None], "bias": np.array([2], np.float32)}, tmp_path / "head.st")
    head = LinearHead(str(tmp_path / "head.st"), str(clip_folder))
    head.load()
    vector = np.linspace(0, 1, 12, dtype=np.float32)
    (score,) = head.score([Item({}, vector=vector)])
    assert score.value == pytest.approx(float(vector @ weight) + 2, rel=1e-5)
    with pytest.raises(ConfigError, match="for vectors of 12 numbers, got 5"):
        head.score([Item({}, vector=np.zeros(5, np.float32))])
    with pytest.raises(ConfigError, match="no such file"):
        LinearHead(str(tmp_path / "nothing"), str(clip_folder))


def test_a_clip_that_is_not_there_says_how_to_get_it():
    from promptlab.scores.clip import ClipMatch

    with pytest.raises(WeightsMissingError, match="expected a folder that transformers saved"):
        _ = ClipMatch("./nowhere").fingerprint


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ('a sign that says "Open now"', "Open now"),
        ("a shop called 'Bean' and “tea”", "Bean tea"),
        ("a fox's den, it's dark", ""),
        ("a fox", ""),
    ],
)
def test_the_quoted_text_is_what_the_picture_shall_show(prompt, text):
    assert quoted_text(prompt) == text


def test_likeness_minds_letters_and_their_order_alone():
    assert likeness("Open now!", "OPEN  NOW") == 1
    assert likeness("open", "nepo") < likeness("open", "opem") < 1
    assert likeness("open", "") == 0


@pytest.mark.slow
def test_text_that_is_painted_is_read():
    pytest.importorskip("rapidocr_onnxruntime")
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.new("RGB", (320, 160), "white")
    ImageDraw.Draw(picture).text((40, 50), "OPEN", "black", ImageFont.load_default(64))
    scorer = TextInImage()
    scorer.load()
    pixels = np.asarray(picture)
    right, wrong, silent = scorer.score(
        [item(pixels, 'a sign "open"'), item(pixels, 'a sign "milk"'), item(pixels)]
    )
    assert right.value > 0.9 > 0.5 > wrong.value
    assert silent == Score()


class FakeJudge(http.server.BaseHTTPRequestHandler):
    """Asks two questions of every prompt; a dark picture is answered with one yes."""

    seen: ClassVar[list[dict[str, Any]]] = []
    fails_with: int | None = None
    says: str | None = None

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append({"body": body, "key": self.headers["Authorization"]})
        if self.fails_with:
            self.send_error(self.fails_with)
            return
        content = body["messages"][0]["content"]
        text = '["Is it a fox?", "Is it red?"]' if isinstance(content, str) else "[true, false]"
        text = self.says or f"Gladly:\n```json\n{text}\n```"
        answer = {
            "choices": [{"message": {"content": text}}],
            "usage": {"prompt_tokens": 1000, "completion_tokens": 100},
        }
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def endpoint(monkeypatch):
    pytest.importorskip("httpx2")
    monkeypatch.setattr(FakeJudge, "seen", [])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), FakeJudge)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def test_the_judge_asks_for_questions_once_a_prompt_and_counts_yes(endpoint, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-secret")
    judge = Judge("m", endpoint, key_variable="MY_KEY", usd_per_million_in=1, usd_per_million_out=2)
    judge.load()
    scores = judge.score([item(flat(9)), item(flat(200)), item(flat(5), "a robot")])
    judge.unload()
    assert [score.value for score in scores] == [0.5, 0.5, 0.5]
    asked = [r for r in FakeJudge.seen if isinstance(r["body"]["messages"][0]["content"], str)]
    assert len(asked) == 2
    assert str(MAX_QUESTIONS) in asked[0]["body"]["messages"][0]["content"]
    assert {request["key"] for request in FakeJudge.seen} == {"Bearer sk-secret"}
    assert judge.cost_usd == pytest.approx(5 * (1000 * 1 + 100 * 2) / 1e6)
    assert describe(Tally(judge, num_scored=3)) == "judge: 3 scored, $0.0060"
    assert "sk-secret" not in judge.fingerprint


@pytest.mark.parametrize(
    ("fails_with", "says", "message"),
    [
        (503, None, "503"),
        (None, "I cannot see it.", "expected a JSON list"),
        (None, "[true]", "expected questions"),
    ],
)
def test_what_the_judge_cannot_answer_is_an_error_of_its_image(
    endpoint, monkeypatch, fails_with, says, message
):
    monkeypatch.setattr(FakeJudge, "fails_with", fails_with)
    monkeypatch.setattr(FakeJudge, "says", says)
    judge = Judge("m", endpoint)
    judge.load()
    (score,) = judge.score([item(flat(9))])
    judge.unload()
    assert score.value is None
    assert message in score.error


SCRIPT = """
import sys
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
from PIL import Image
rows = pq.read_table(sys.argv[1]).to_pylist()
values = [float(np.asarray(Image.open(row["path"])).mean()) for row in rows]
pq.write_table(pa.table({"image_id": [r["image_id"] for r in rows], "value": values}), sys.argv[2])
"""


def test_a_command_reads_a_table_of_images_and_writes_one_of_values(tmp_path):
    script = tmp_path / "mean.py"
    script.write_text(SCRIPT)
    scorer = CommandScorer("mean", [sys.executable, str(script), "{input}", "{output}"])
    first, second = scorer.score([item(flat(40), image_id="a"), item(flat(90), image_id="b")])
    assert (first.value, second.value) == (40, 90)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys; sys.exit('out of luck')", "ended with 1: out of luck"),
        ("pass", "its output cannot be read"),
    ],
)
def test_a_command_that_fails_says_why(code, message):
    scorer = CommandScorer("mean", [sys.executable, "-c", code, "{input}", "{output}"])
    (score,) = scorer.score([item(flat(1))])
    assert message in score.error


def test_a_command_without_its_files_is_refused():
    with pytest.raises(ConfigError, match=r"\{input\} and \{output\}"):
        CommandScorer("mean", ["true"])


def test_a_missing_extra_names_the_command_that_installs_it(monkeypatch):
    import importlib.metadata

    def lost(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", lost)
    with pytest.raises(ModelError, match=r"promptlab\[scores\]"):
        _ = TextInImage().fingerprint
