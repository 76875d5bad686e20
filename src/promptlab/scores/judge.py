"""A vision-language model as judge, over an endpoint that speaks OpenAI's chat protocol.

Takes prompts and pixels. The judge writes at most twelve yes/no questions for a prompt, once, and
answers them for each image of it: the score is the share of yes. Counts what the answers cost. The
key comes from an environment variable and is written nowhere. Needs promptlab[scores].
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Sequence
from typing import Any

from promptlab.errors import ConfigError, ModelError
from promptlab.identity import hash_id
from promptlab.png import compress
from promptlab.scores.protocol import Item, Score, Weightless

MAX_QUESTIONS = 12
TIMEOUT_S = 120.0
ASK = (
    "Write at most {count} yes/no questions that a viewer could answer from a picture alone and "
    "that are all answered yes when the picture shows exactly this prompt. One fact a question, "
    "the most important first. Answer with a JSON list of texts and nothing else.\nPrompt: {prompt}"
)
ANSWER = (
    "Look at the picture and answer each question with true or false. When in doubt, false. Answer "
    "with a JSON list of {count} truth values and nothing else.\n{questions}"
)


class Judge(Weightless):
    """The share of a prompt's questions that a vision-language model answers with yes."""

    bounds = (0.0, 1.0)

    def __init__(
        self,
        model: str,
        base_url: str,
        name: str = "judge",
        key_variable: str = "OPENAI_API_KEY",
        usd_per_million_in: float | None = None,
        usd_per_million_out: float | None = None,
    ) -> None:
        if not base_url.startswith(("http://", "https://")):
            raise ConfigError(f"base_url={base_url!r}: expected http://… or https://…, to /v1.")
        self.name = name
        self.cost_usd: float | None = None if usd_per_million_in is None else 0.0
        self._prices = (usd_per_million_in or 0.0, usd_per_million_out or 0.0)
        self._model = model
        self._url = f"{base_url.rstrip('/')}/chat/completions"
        self._key_variable = key_variable
        self._client: Any = None
        self._questions: dict[str, list[str]] = {}
        self.fingerprint = hash_id([model, base_url, ASK, ANSWER])

    def load(self) -> None:
        """Open the connection."""
        try:
            import httpx2
        except ImportError:
            raise ModelError("The judge needs httpx2: pip install 'promptlab[scores]'") from None
        key = os.environ.get(self._key_variable)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx2.Client(headers=headers, timeout=TIMEOUT_S)

    def unload(self) -> None:
        """Close the connection."""
        self._client.close()
        self._client = None

    def score(self, items: Sequence[Item]) -> list[Score]:
        """Return each image's share; what the endpoint refuses is an error of its image."""
        return [self._score(item) for item in items]

    def _score(self, item: Item) -> Score:
        assert item.pixels is not None
        try:
            questions = self._questions_of(item.row["prompt"])
            listed = "\n".join(f"{n}. {text}" for n, text in enumerate(questions, 1))
            picture = base64.b64encode(compress(item.pixels)).decode()
            answers = self._ask(
                [
                    {"type": "text", "text": ANSWER.format(count=len(questions), questions=listed)},
                    {
                        "type": "image_url",
                        "image_url": {"url": f"data:image/png;base64,{picture}"},
                    },
                ]
            )
        except (OSError, ValueError, self._error_kind()) as error:
            return Score(error=f"{type(error).__name__}: {' '.join(str(error).split())}")
        if len(answers) != len(questions) or not all(isinstance(a, bool) for a in answers):
            return Score(error=f"expected {len(questions)} truth values, got {answers!r:.100}")
        return Score(sum(answers) / len(questions))

    def _error_kind(self) -> type[Exception]:
        import httpx2

        kind: type[Exception] = httpx2.HTTPError
        return kind

    def _questions_of(self, prompt: str) -> list[str]:
        if prompt not in self._questions:
            found = self._ask(ASK.format(count=MAX_QUESTIONS, prompt=prompt))
            questions = [text for text in found if isinstance(text, str)][:MAX_QUESTIONS]
            if not questions:
                raise ValueError(f"expected questions, got {found!r:.100}")
            self._questions[prompt] = questions
        return self._questions[prompt]

    def _ask(self, content: str | list[dict[str, Any]]) -> list[Any]:
        """Send one message and return the JSON list in the answer."""
        answer = self._client.post(
            self._url,
            json={
                "model": self._model,
                "messages": [{"role": "user", "content": content}],
                "temperature": 0,
            },
        )
        answer.raise_for_status()
        body = answer.json()
        usage = body.get("usage") or {}
        if self.cost_usd is not None:
            tokens = (usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0))
            self.cost_usd += sum(n * p / 1e6 for n, p in zip(tokens, self._prices, strict=True))
        try:
            text = body["choices"][0]["message"]["content"]
            match = re.search(r"\[.*\]", text, re.DOTALL)
            found = json.loads(match[0]) if match else None
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(f"the answer has no text: {str(body)[:100]}") from error
        if not isinstance(found, list):
            raise ValueError(f"expected a JSON list, got {text[:100]!r}")
        return found
