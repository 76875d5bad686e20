"""Who may do what: tokens and their roles, and whether a request comes from where it may.

Pure but for the file of the tokens: takes a request's method, headers, token and address, returns
its visitor or a refusal with its HTTP status. Knows no web framework; the clock is passed in.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import os
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from promptlab.atomic import replacing
from promptlab.errors import ConfigError

ROLES = ("view", "rate", "run")  # each may do what those before it may
ACCESS_PATH = ".serve/access.json"  # in the folder of the runs
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
NUM_FREE_FAILURES = 5  # of an address; each further one doubles the time to wait
MAX_WAIT_S = 300.0
MAX_ADDRESSES = 4096  # whose failures are remembered
TOKEN_BYTES = 32
MAX_NAME_LENGTH = 40  # characters


@dataclass(frozen=True, slots=True)
class Token:
    """Who holds a link: the link's secret itself is kept by nobody."""

    sha256: str
    role: str
    name: str
    created_at: float


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks, and what they may do."""

    role: str
    name: str = ""  # of the token, "": the person at this machine

    def may(self, role: str) -> bool:
        """Tell whether the visitor has a role or one above it."""
        return ROLES.index(self.role) >= ROLES.index(role)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not answered."""

    status: int
    reason: str
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What of a request decides on access."""

    method: str
    headers: Mapping[str, str]  # names in lower case
    address: str  # the client's
    cookie: str = ""
    query_token: str = ""
    is_page: bool = False  # an answer that a person reads, which a link elsewhere may lead to


@dataclass
class _Failures:
    number: int = 0
    blocked_until: float = 0.0


class TokenFile:
    """The tokens of a folder of runs; other processes may add to them and revoke them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: tuple[int, int] | None = None
        self._tokens: dict[str, Token] = {}

    def tokens(self) -> Mapping[str, Token]:
        """Return all tokens by their hash, as the file has them now."""
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            self._stamp, self._tokens = None, {}
            return self._tokens
        stamp = (stat.st_mtime_ns, stat.st_ino)
        if stamp != self._stamp:
            try:
                listed = json.loads(self.path.read_text(encoding="utf-8"))["tokens"]
                self._tokens = {one["sha256"]: Token(**one) for one in listed}
            except (ValueError, KeyError, TypeError) as error:
                raise ConfigError(
                    f"{self.path} is not readable ({error!r}). Expected what --new-token wrote; "
                    "remove the file and make new tokens."
                ) from error
            self._stamp = stamp
        return self._tokens

    def add(self, role: str, name: str = "", now: float | None = None) -> str:
        """Make a token and return it: the only time that anybody sees it."""
        if role not in ROLES:
            raise ConfigError(f"Role {role!r}: expected one of {', '.join(ROLES)}.")
        if len(name) > MAX_NAME_LENGTH or not name.isprintable():
            raise ConfigError(
                f"Name {name!r}: expected up to {MAX_NAME_LENGTH} printable characters."
            )
        if name and any(token.name == name for token in self.tokens().values()):
            raise ConfigError(f"A token is named {name!r} already: revoke it, or choose another.")
        secret = secrets.token_urlsafe(TOKEN_BYTES)
        created_at = time.time() if now is None else now
        token = Token(hash_token(secret), role, name or f"guest-{secret[:4]}", created_at)
        self._write([*self.tokens().values(), token])
        return secret

    def revoke(self, name: str) -> bool:
        """Remove the tokens of a name; False: there are none."""
        tokens = list(self.tokens().values())
        kept = [token for token in tokens if token.name != name]
        if len(kept) < len(tokens):
            self._write(kept)
        return len(kept) < len(tokens)

    def _write(self, tokens: list[Token]) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        content = json.dumps({"tokens": [asdict(token) for token in tokens]}, indent=1)
        with replacing(str(self.path), is_durable=True) as aside:
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(content)
        self._stamp = None


def hash_token(token: str) -> str:
    """Return what is kept of a token: it is random enough that one round suffices."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass
class Access:
    """The rules of one server."""

    tokens: TokenFile
    host: str = "127.0.0.1"  # that the server listens on
    allowed_hosts: Collection[str] = ()  # further names that it is reached by
    clock: Callable[[], float] = time.monotonic
    _failures: dict[str, _Failures] = field(default_factory=dict)
    _known: set[tuple[str, str]] = field(default_factory=set)  # (address, hash) that came in

    @property
    def is_open(self) -> bool:
        """Tell whether whoever reaches the server may do all: nobody but this machine can."""
        return is_loopback(self.host) and not self.allowed_hosts

    def check_host(self, headers: Mapping[str, str]) -> Refusal | None:
        """Refuse a Host that is none of the server's names: a page may have rebound its own."""
        name = _host_name(headers.get("host", ""))
        if name in {_host_name(host) for host in self.allowed_hosts}:
            return None
        if is_loopback(self.host):
            is_own = name == "localhost" or (_is_address(name) and is_loopback(name))
        else:  # an address cannot be rebound, a name can
            is_own = _is_address(name)
        if is_own or name == _host_name(self.host):
            return None
        return Refusal(
            403,
            f"The server is not known as {name[:100]!r}. If it is meant to be, start it with "
            f"--allow-host {name[:100]}."
            if name
            else "The request names no valid Host.",
        )

    def admit(self, asked: Asked, role: str) -> Visitor | Refusal:
        """Return who asks, or why they may not: `role` is what the route wants."""
        refusal = self.check_host(asked.headers) or self._check_origin(asked)
        if refusal is not None:
            return refusal
        visitor = self._identify(asked)
        if isinstance(visitor, Refusal) or visitor.may(role):
            return visitor
        return Refusal(403, f"This link may {visitor.role}; what you ask for wants {role}.")

    def _check_origin(self, asked: Asked) -> Refusal | None:
        """Refuse what a page of another origin makes a browser ask for."""
        site = asked.headers.get("sec-fetch-site")
        origin = asked.headers.get("origin")
        foreign = Refusal(403, "The request comes from a page of another origin.")
        if asked.method in SAFE_METHODS:
            is_visit = (
                asked.is_page
                and asked.headers.get("sec-fetch-mode", "navigate") == "navigate"
                and asked.headers.get("sec-fetch-dest", "document") == "document"
            )
            return None if site in (None, "same-origin", "none") or is_visit else foreign
        if site is not None:
            return None if site == "same-origin" else foreign
        if origin is not None:
            is_same = origin.partition("://")[2] == asked.headers.get("host")
            return None if is_same else foreign
        if _bearer(asked.headers):  # no page can send it without asking first
            return None
        return Refusal(
            403,
            "Expected the header Origin, as browsers send it, or from a program the header "
            "Authorization: Bearer TOKEN (on this machine any token).",
        )

    def _identify(self, asked: Asked) -> Visitor | Refusal:
        """Return who holds the token that was sent."""
        given = asked.query_token or _bearer(asked.headers) or asked.cookie
        if not given:
            return Visitor("run") if self.is_open else self._wants_token()
        hashed = hash_token(given)
        found: Token | None = None
        for kept, token in self.tokens.tokens().items():
            if hmac.compare_digest(kept, hashed):
                found = token
        if found is None and self.is_open:  # API clients always send a key
            return Visitor("run")
        # Who came in before from this address is let in however many others fail there.
        key = (asked.address, hashed)
        now = self.clock()
        failures = self._failures.get(asked.address)
        if failures and now < failures.blocked_until and not (found and key in self._known):
            return Refusal(
                429, "Too many wrong tokens from this address.", failures.blocked_until - now
            )
        if found is None:
            self._count_failure(asked.address, now)
            return self._wants_token()
        if len(self._known) >= MAX_ADDRESSES:
            self._known.clear()
        self._known.add(key)
        return Visitor(found.role, found.name)

    def _count_failure(self, address: str, now: float) -> None:
        failures = self._failures.pop(address, _Failures())
        failures.number += 1
        if failures.number > NUM_FREE_FAILURES:
            wait_s = min(2.0 ** (failures.number - NUM_FREE_FAILURES - 1), MAX_WAIT_S)
            failures.blocked_until = now + wait_s
        self._failures[address] = failures  # the newest last
        if len(self._failures) > MAX_ADDRESSES:
            del self._failures[next(iter(self._failures))]

    def _wants_token(self) -> Refusal:
        return Refusal(
            401,
            "Open the link or QR code that `promptlab serve --new-token` printed; a program sends "
            "the header Authorization: Bearer TOKEN.",
        )


def is_loopback(host: str) -> bool:
    """Tell whether an address or name can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _host_name(host: str) -> str:
    """Return the name of a Host header without its port, in lower case; "" if it is none."""
    if not host or any(character in host for character in "/@\\ ,#?"):
        return ""
    name, colon, port = host.rpartition(":")
    if colon and (port.isdecimal() or not port) and (":" not in name or name.endswith("]")):
        host = name
    return host.lower().rstrip(".")


def _bearer(headers: Mapping[str, str]) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
