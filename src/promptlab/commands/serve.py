"""`promptlab serve`: the queue, its workers and its pages, on this machine or for others."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import socket
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

from promptlab.errors import ConfigError, PromptlabError

if TYPE_CHECKING:
    from promptlab.serve.access import Access, TokenFile

DEFAULT_PORT = 8765
ADDRESS_PATH = ".serve/address"  # of the server that was started last, for --new-token
STOP_S = 3  # for streams and requests to end
MAX_CONNECTIONS = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "runs_dir", nargs="?", default="runs", metavar="RUNS_DIR", help="the folder of the runs"
    )
    parser.add_argument(
        "--host",
        help="address to listen on (default: 127.0.0.1, which only this machine reaches); any "
        "other one wants a token, and is meant for a private network, never the internet",
    )
    parser.add_argument("--port", type=int, default=DEFAULT_PORT)
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a further name that the server is reached by, such as that of a reverse proxy",
    )
    parser.add_argument(
        "--new-token",
        metavar="ROLE[:NAME]",
        help="print a link and its QR code for somebody, and end; roles: view, rate (blind, as "
        "NAME), run (queue sweeps on any model). A running server knows it at once",
    )
    parser.add_argument("--revoke", metavar="NAME", help="take a token back, and end")
    parser.add_argument(
        "--workers", type=int, metavar="N", help="resident workers (default: one a device)"
    )
    parser.add_argument("--open", action="store_true", help="open a browser")


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C, or make or revoke a token; return the exit code."""
    from promptlab.serve.access import ACCESS_PATH, Access, TokenFile

    if "://" in args.runs_dir:
        raise ConfigError(f"{args.runs_dir}: expected a local folder; the queue is a file in it.")
    if not 0 <= args.port < 65536:
        raise ConfigError(f"--port {args.port}: expected a number from 0 to 65535.")
    runs_dir = Path(args.runs_dir)
    tokens = TokenFile(runs_dir / ACCESS_PATH)
    if args.revoke is not None:
        if not tokens.revoke(args.revoke):
            names = ", ".join(token.name for token in tokens.tokens().values()) or "none"
            raise ConfigError(f"No token is named {args.revoke!r}. There are: {names}.")
        print(f"The token of {args.revoke} is revoked.")
        return 0
    if args.new_token is not None:
        _print_token(tokens, args.new_token, _address_for_links(args, runs_dir))
        return 0
    access = Access(tokens, args.host or "127.0.0.1", tuple(args.allow_host))
    return _serve(args, access)


def _serve(args: argparse.Namespace, access: Access) -> int:
    try:
        import uvicorn

        from promptlab.serve.app import make_app, routes_of
    except ImportError as error:
        raise PromptlabError(
            f"`promptlab serve` needs {error.name}: pip install 'promptlab[serve]'"
        ) from None
    from promptlab.serve.children import Children
    from promptlab.serve.desk import Desk
    from promptlab.serve.previews import Previews
    from promptlab.serve.queue import QUEUE_PATH, Queue
    from promptlab.serve.runner import Runner
    from promptlab.serve.server import Server

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    runs_dir = Path(args.runs_dir)
    queue = Queue(runs_dir / QUEUE_PATH)
    with contextlib.ExitStack() as stack:
        stack.callback(queue.close)
        listener = stack.enter_context(_listen(access.host, args.port))
        args.port = listener.getsockname()[1]
        desk = Desk(args.workers)
        desk.start()
        stack.callback(desk.stop)
        children = Children(args.runs_dir, desk, runs_dir / ".serve" / "logs")
        stack.callback(children.close)
        previews = Previews()
        owner = f"{socket.gethostname()}-{os.getpid()}"
        runner = Runner(queue, children, owner, previews=previews)
        runner.start()
        stack.callback(runner.stop)
        server = Server(args.runs_dir, queue, children, access, previews)

        class Uvicorn(uvicorn.Server):
            """Ends its streams before it waits for them."""

            async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
                await server.close()
                await super().shutdown(sockets)

        config = uvicorn.Config(
            make_app(server, routes_of(server)),
            log_config=None,
            access_log=False,  # it would hold the tokens of links
            server_header=False,
            proxy_headers=False,  # a client could name any address as its own
            ws="none",
            lifespan="off",
            limit_concurrency=MAX_CONNECTIONS,
            timeout_graceful_shutdown=STOP_S,
        )
        # uvicorn hears it first and raises it again when it has ended: then all else ends as well.
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
        _announce(args, access)
        with contextlib.suppress(KeyboardInterrupt):
            Uvicorn(config).run(sockets=[listener])
        print("\nStopping: what is being drawn is kept and waits in the queue.", flush=True)
    return 0


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family, backlog=512)
    except OSError as error:
        raise ConfigError(
            f"{host}:{port} cannot be used ({error.strerror or error}). Does another server run "
            f"there? Choose another port: promptlab serve --port {min(port + 1, 65535)}"
        ) from error


def _announce(args: argparse.Namespace, access: Access) -> None:
    """Print where the server is, and a first link where one is needed."""
    address = _address(args)
    path = Path(args.runs_dir) / ADDRESS_PATH
    path.write_text(address, encoding="utf-8")
    print(f"promptlab serves {args.runs_dir} at {address} (Ctrl-C ends it)", flush=True)
    if not access.is_open and not access.tokens.tokens():
        _print_token(access.tokens, "run:owner", address)
    elif not access.is_open:
        print("Who holds a token may come in; more: promptlab serve --new-token ROLE:NAME")
    if args.open:
        webbrowser.open(f"http://{'127.0.0.1' if access.is_open else access.host}:{args.port}/")


def _address(args: argparse.Namespace) -> str:
    """Return the address that others reach the server by."""
    from promptlab.serve.access import is_loopback

    host = args.host or "127.0.0.1"
    if args.allow_host and is_loopback(host):  # a proxy on this machine answers for it
        return f"https://{args.allow_host[0]}/"
    name = args.allow_host[0] if args.allow_host else _own_address(host)
    return f"http://{f'[{name}]' if ':' in name else name}:{args.port}/"


def _own_address(host: str) -> str:
    """Return this machine's address on its network for a host that stands for all of them."""
    if host not in ("0.0.0.0", "::"):
        return host.strip("[]")
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing: it only chooses an interface
        return str(probe.getsockname()[0])
    return socket.gethostname()


def _address_for_links(args: argparse.Namespace, runs_dir: Path) -> str:
    """Return the address of the server that was started last, unless the command names one."""
    path = runs_dir / ADDRESS_PATH
    if args.host is None and not args.allow_host and path.is_file():
        return path.read_text(encoding="utf-8")
    return _address(args)


def _print_token(tokens: TokenFile, asked: str, address: str) -> None:
    """Make a token and print its link, the only time that anybody sees it."""
    role, _, name = asked.partition(":")
    link = f"{address}?token={tokens.add(role, name)}"
    may = {"view": "look", "rate": "look and rate", "run": "look, rate and queue sweeps"}[role]
    print(f"Whoever opens this link may {may}; it is shown this once:\n\n  {link}\n", flush=True)
    try:
        import segno
    except ImportError:
        return
    segno.make(link).terminal(out=sys.stdout, compact=True)
