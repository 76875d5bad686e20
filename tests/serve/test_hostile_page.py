"""A page of another origin in a real browser, on the machine of the server: it gets nowhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.serve.running import Running

pytestmark = pytest.mark.browser

# Everything that a page can try without asking; each answer is what the page could learn.
ATTACK = """
async (target) => {
  const outcomes = {};
  const note = async (name, attempt) => {
    try { outcomes[name] = await attempt(); } catch (error) { outcomes[name] = 'failed'; }
  };
  const json = JSON.stringify({wish: {subject: 'hostile'}});
  const post = (path, options) => fetch(target + path, {method: 'POST', body: json, ...options});
  const loaded = (element, attribute, url) => new Promise((resolve) => {
    element.onload = () => resolve('loaded');
    element.onerror = () => resolve('failed');
    element[attribute] = url;
    document.body.append(element);
    setTimeout(() => resolve('failed'), 3000);
  });
  const types = {json: 'application/json', text: 'text/plain', form: 'multipart/form-data'};
  await note('read', async () => (await fetch(target + 'api/queue')).text());
  await note('read with cookies', async () =>
    (await fetch(target + 'api/queue', {credentials: 'include'})).text());
  await note('read opaque', async () =>
    (await fetch(target + 'api/queue', {mode: 'no-cors'})).text());
  for (const [name, type] of Object.entries(types)) {
    await note('post ' + name, async () =>
      (await post('api/queue', {headers: {'content-type': type}})).text());
    await note('post opaque ' + name, async () =>
      (await post('api/queue', {mode: 'no-cors', headers: {'content-type': type}})).text());
  }
  await note('post with a token', async () => (await post('v1/images/generations', {
    headers: {'content-type': 'application/json', authorization: 'Bearer x'}})).text());
  await note('cancel', async () =>
    (await fetch(target + 'api/queue/ENTRY/cancel', {method: 'POST', mode: 'no-cors'})).text());
  await note('beacon', async () => {
    navigator.sendBeacon(target + 'api/queue', json);
    navigator.sendBeacon(target + 'api/queue', new Blob([json], {type: 'application/json'}));
    return '';
  });
  await note('stream', () => new Promise((resolve) => {
    const stream = new EventSource(target + 'api/queue/events');
    stream.addEventListener('queue', (event) => resolve(event.data));
    stream.onerror = () => resolve('failed');
  }));
  await note('socket', () => new Promise((resolve) => {
    const socket = new WebSocket(target.replace('http', 'ws') + 'api/queue');
    socket.onopen = () => resolve('open');
    socket.onerror = () => resolve('failed');
  }));
  await note('script', () =>
    loaded(document.createElement('script'), 'src', target + 'static/queue.js'));
  await note('style', () => {
    const link = document.createElement('link');
    link.rel = 'stylesheet';
    return loaded(link, 'href', target + 'static/queue.css');
  });
  await note('image', () =>
    loaded(document.createElement('img'), 'src', target + 'runs/x/images/0123456789abcdef.png'));
  await note('frame', async () => {
    const frame = document.createElement('iframe');
    await loaded(frame, 'src', target);
    return frame.contentDocument ? frame.contentDocument.body.innerText : 'failed';
  });
  await note('window', async () => {
    const opened = window.open(target, 'victim');
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const learnt = opened.document ? opened.document.body.innerText : 'failed';
    return learnt;
  });
  await note('form', async () => {
    for (const type of ['text/plain', 'application/x-www-form-urlencoded']) {
      const form = document.createElement('form');
      Object.assign(form, {method: 'POST', action: target + 'api/queue', enctype: type});
      form.target = 'form';
      const field = document.createElement('input');
      field.name = '{"wish": {"subject": "hostile", "x": "';
      field.value = '"}}';
      form.append(field);
      document.body.append(form);
      form.submit();
    }
    await new Promise((resolve) => setTimeout(resolve, 1000));
    return '';
  });
  return outcomes;
}
"""


class Hostile(BaseHTTPRequestHandler):
    """Serves an empty page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>hostile</title><body>")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hostile_port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    "host",
    [
        "www.evil.example",
        *(pytest.param(host, marks=pytest.mark.slow) for host in ("localhost", "127.0.0.1")),
    ],
)
def test_a_page_of_another_origin_reads_and_queues_nothing(
    live_server: Running, chromium: Any, hostile_port: int, host: str
) -> None:
    """Also one of the same site: another port of localhost."""
    entry_id = live_server.queue.add(["subject=victim"]).entry_id
    before = lines(live_server)
    context = chromium.new_context()
    try:
        page = context.new_page()
        # The victim has the server's own page open, too.
        page.goto(live_server.address)
        page = context.new_page()
        page.goto(f"http://{host}:{hostile_port}/")
        for target in {live_server.address, live_server.address.replace("127.0.0.1", "localhost")}:
            outcomes = page.evaluate(ATTACK.replace("ENTRY", str(entry_id)), target)
            learnt = {name: text for name, text in outcomes.items() if text not in ("failed", "")}
            assert learnt == {}
    finally:
        context.close()
    assert lines(live_server) == before
    assert live_server.queue.get(entry_id).status != "cancelled"


def lines(server: Running) -> list[str]:
    return [entry["line"] for entry in server.ask("api/queue")[1]["entries"]]


def test_a_name_that_was_rebound_to_this_machine_is_not_answered(
    live_server: Running, chromium: Any
) -> None:
    port = urlsplit(live_server.address).port
    page = chromium.new_page()
    answer = page.goto(f"http://www.evil.example:{port}/")
    assert answer.status == 403
    read = "async () => (await fetch('/api/queue')).status"
    assert page.evaluate(read) == 403
    page.close()


def test_the_attack_would_be_seen(live_server: Running, chromium: Any) -> None:
    """The same script on the server's own page reads the queue and adds to it."""
    page = chromium.new_page()
    page.goto(live_server.address)
    count = len(live_server.ask("api/queue")[1]["entries"])
    read = "async () => (await fetch('/api/queue')).status"
    assert page.evaluate(read) == 200
    add = """async () => (await fetch('/api/queue', {method: 'POST',
        headers: {'content-type': 'application/json'},
        body: JSON.stringify({wish: {subject: 'own'}})})).status"""
    assert page.evaluate(add) == 201
    assert len(live_server.ask("api/queue")[1]["entries"]) == count + 1
    page.close()
