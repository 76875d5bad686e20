"""One HTTP call: the key, three time limits, a size limit, and what a failure means.

Takes a path and a body, returns JSON or the bytes of an image. The key comes from an environment
variable, goes to the server's own address alone, and is in no message. Repeats nothing that could
be billed: what a failed call means is a CallError, a RefusedError or a ModelLostError.
"""

from __future__ import annotations

import base64
import json
import os
import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from promptlab import redaction
from promptlab.errors import ConfigError, ModelError, ModelLostError
from promptlab.models.http.pace import Clock
from promptlab.models.http.repeat import backoff, wait_asked
from promptlab.models.http.service import CallError, FailureKind, RefusedError

MAX_REASON = 300  # characters that are quoted of a server's error
MAX_REDIRECTS = 3  # of a download, which has no key
MAX_ASKS = 6  # tries of a call that changes nothing
# Errors of an account rather than of a request: no other request would fare better.
ACCOUNT_CODES = ("insufficient_quota", "billing_hard_limit_reached", "invalid_api_key")


@dataclass(frozen=True)
class Server:
    """Where an API is, and how it may be asked."""

    url: str
    key_variable: str | None = None  # environment variable that holds the key; None: no key
    concurrency: int = 4  # requests in flight
    per_minute: float | None = None  # requests, each of one image; None: as fast as it answers
    connect_s: float = 10.0  # until a connection
    read_s: float = 300.0  # between two pieces of an answer, the first included
    total_s: float = 900.0  # a whole answer
    patience_s: float = 1800.0  # without an answer before the sweep ends
    first_wait_s: float = 1.0  # before the second try; each further one waits twice as long
    max_mb: float = 64.0  # of an answer
    price: float | None = None  # US dollars an image, 0 for free; None: conf/prices.yaml

    def __post_init__(self) -> None:
        address = urlsplit(str(self.url))
        if address.scheme not in ("http", "https") or not address.hostname:
            raise ConfigError(f"model.base_url={self.url!r}: expected http://… or https://….")
        if address.username or address.password or address.query:
            raise ConfigError(
                "model.base_url holds a name, a password or a query: put the credential into an "
                "environment variable and name that in model.key_variable."
            )
        object.__setattr__(self, "url", self.url.rstrip("/"))
        for one in fields(self)[2:]:
            value = getattr(self, one.name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            is_free = one.name == "price" and value == 0
            if value is not None and not is_free and not (is_number and value > 0):
                raise ConfigError(f"model.{one.name}={value!r}: expected a number above 0.")

    @property
    def host(self) -> str:
        """Host and port, as people read them."""
        return urlsplit(self.url).netloc


@dataclass
class Client:
    """Calls to one server; its methods may be called from several threads."""

    server: Server
    clock: Clock = field(default_factory=Clock)
    stop: threading.Event = field(default_factory=threading.Event)  # the sweep ends

    def __post_init__(self) -> None:
        try:
            import httpx2
        except ModuleNotFoundError:
            raise ModelError(
                "Models behind HTTP need httpx2, which is not installed: "
                "pip install 'promptlab[http]'."
            ) from None
        self._errors = httpx2
        server = self.server
        self._key = os.environ.get(server.key_variable or "", "").strip()
        if server.key_variable and not self._key:
            raise ModelError(
                f"The key of {server.host} is not set: expected it in the environment variable "
                f"{server.key_variable} (export {server.key_variable}=…)."
            )
        redaction.keep_out(self._key)
        limits = httpx2.Limits(max_connections=2 * server.concurrency + 2, keepalive_expiry=5.0)
        timeout = httpx2.Timeout(server.read_s, connect=server.connect_s)
        self._http = httpx2.Client(timeout=timeout, limits=limits, follow_redirects=False)
        self._chance = random.Random()

    def close(self) -> None:
        """Close all connections; calls that are open end as lost."""
        self._http.close()

    def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Any:
        """Send JSON and return the JSON of the answer."""
        return self._json("POST", path, body, headers)

    def get(self, path: str) -> Any:
        """Return JSON, None where the server knows nothing under this path; repeats failures."""
        return self._repeated(lambda: self._json("GET", path, None, None, may_miss=True))

    def fetch(self, url: str) -> bytes:
        """Return the file at a URL that an answer names; repeats failures.

        The key goes along to the server's own address alone; https is asked for elsewhere.
        """
        if url.startswith("data:"):
            return base64.b64decode(url.partition(",")[2])
        return self._repeated(lambda: self._fetch(url))

    def wait(self, seconds: float) -> None:
        """Wait between two questions; raises StoppedError when the sweep ends."""
        self.clock.wait(seconds, self.stop)

    def _repeated(self, call: Any) -> Any:
        for number in range(1, MAX_ASKS + 1):
            try:
                return call()
            except CallError as failure:
                if number == MAX_ASKS or failure.kind == "down":
                    # What was sent before may be under way, whatever this call says.
                    is_down = failure.is_unreachable
                    raise CallError("lost", str(failure), is_unreachable=is_down) from None
                wait_s = backoff(number, self.server.first_wait_s, self._chance)
                self.wait(wait_s if failure.wait_s is None else failure.wait_s)

    def _fetch(self, url: str) -> bytes:
        for _ in range(MAX_REDIRECTS + 1):
            is_own = _origin(url) == _origin(self.server.url)
            if not is_own and urlsplit(url).scheme != "https":
                raise RefusedError(
                    f"the answer is at {url[:MAX_REASON]}: expected an https address"
                )
            status, headers, body = self._call("GET", url, None, {}, with_key=is_own)
            if not 300 <= status < 400:
                self._check(status, headers, body)
                return body
            url = str(self._errors.URL(url).join(headers.get("location", "")))
        raise RefusedError(f"the answer is behind more than {MAX_REDIRECTS} redirects")

    def _json(
        self,
        method: str,
        path: str,
        body: Any,
        headers: Mapping[str, str] | None,
        may_miss: bool = False,
    ) -> Any:
        url = path if path.startswith(f"{self.server.url}/") else f"{self.server.url}{path}"
        status, found, content = self._call(method, url, body, headers or {}, with_key=True)
        if may_miss and status == 404:
            return None
        self._check(status, found, content)
        try:
            return json.loads(content or b"{}")
        except ValueError:
            raise CallError("lost", f"expected JSON, got {self._quote(content)}") from None

    def _call(
        self, method: str, url: str, body: Any, headers: Mapping[str, str], *, with_key: bool
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Return status, headers and body; raises CallError where there are none."""
        http, deadline = self._errors, time.monotonic() + self.server.total_s
        kind: FailureKind = "lost"
        try:
            sent = {"accept-encoding": "identity", **headers, **(self._login() if with_key else {})}
            with self._http.stream(method, url, json=body, headers=sent) as response:
                content = bytearray()
                for piece in response.iter_bytes(65536):
                    content += piece
                    if len(content) > self.server.max_mb * 1e6:
                        raise RefusedError(f"the answer is larger than {self.server.max_mb:g} MB")
                    if time.monotonic() > deadline:
                        limit = self.server.total_s
                        raise CallError("lost", f"the answer took longer than {limit:g} s")
                return response.status_code, response.headers, bytes(content)
        except (http.InvalidURL, http.UnsupportedProtocol) as error:
            raise RefusedError(self._clean(f"{type(error).__name__}: {error}")) from None
        except (http.ConnectError, http.ConnectTimeout, http.PoolTimeout) as error:
            kind, reason = "down", f"{type(error).__name__}: {error}"
        except (http.RequestError, RuntimeError) as error:  # RuntimeError: the client was closed
            reason = f"{type(error).__name__}: {error}"
        # The exception holds the request with its headers: it must be in no traceback.
        raise CallError(kind, self._clean(reason))

    def _login(self) -> dict[str, str]:
        if not self._key:
            return {}
        if ":" in self._key:  # user:password, as A1111's --api-auth has it
            return {"authorization": f"Basic {base64.b64encode(self._key.encode()).decode()}"}
        return {"authorization": f"Bearer {self._key}"}

    def _check(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Raise what a status other than success means."""
        if 200 <= status < 300:
            return
        code, reason = _explain(body)
        text = self._clean(f"{status}: {reason or self._quote(body)}"[:MAX_REASON])
        host, variable = self.server.host, self.server.key_variable
        if 300 <= status < 400:
            where = _origin(headers.get("location", ""))
            raise ModelLostError(f"{host} redirects to {where}: name that in model.base_url")
        if status == 401 or (status == 403 and variable):
            raise ModelLostError(f"{host} does not accept the key in {variable} ({text})")
        if status in (402, 403, 404, 405) or code in ACCOUNT_CODES:
            raise ModelLostError(f"{host} answers {text}")
        wait_s = wait_asked(headers, datetime.now(UTC))
        if status in (408, 504, 524):
            raise CallError("lost", text, wait_s)
        if status in (425, 429) or (status == 503 and wait_s is not None):
            raise CallError("busy", text, wait_s)
        if status >= 500:
            raise CallError("down" if status in (502, 503) else "broken", text, wait_s)
        raise RefusedError(text)

    def _quote(self, body: bytes) -> str:
        return repr(self._clean(body[:120].decode("utf-8", "replace")))

    def _clean(self, text: str) -> str:
        return redaction.redact_text(" ".join(text.split()))


def _origin(url: str) -> str:
    address = urlsplit(url)
    return f"{address.scheme}://{address.netloc}"


def _explain(body: bytes) -> tuple[str, str]:
    """Return the code and the message of an error, as the usual APIs write them."""
    try:
        found = json.loads(body)
    except ValueError:
        return "", ""
    if not isinstance(found, Mapping):
        return "", str(found)
    error = found.get("error") or found.get("detail") or found.get("errors") or found
    if not isinstance(error, Mapping):
        return "", str(error)
    further = found.get("node_errors")  # ComfyUI's
    details = f" {json.dumps(further)}" if further else ""
    message = error.get("message") or error.get("title") or json.dumps(error)
    return str(error.get("code") or ""), f"{message}{details}"
