"""A page under test, in a real browser: what tests look at and do."""

import time
from pathlib import Path


def wait_until(frame, expression, timeout_s=60):
    """Ask until an expression is true.

    Playwright's own waiting evaluates text inside the page, which the page's policy forbids.
    """
    give_up_at = time.monotonic() + timeout_s
    while not _ask(frame, expression):
        assert time.monotonic() < give_up_at, expression
        time.sleep(0.03)


def _ask(frame, expression):
    try:
        return frame.evaluate(expression)
    except Exception as error:
        if "Execution context was destroyed" not in str(error):
            raise
        return None  # the page leads elsewhere, or loads itself again


class Page:
    """A page under test: what it logged, and shorthands for what tests look at."""

    def __init__(self, page):
        self.page = page
        self.problems = []
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", self._note)

    def _note(self, message):
        if message.type in ("error", "warning"):
            self.problems.append(message.text)

    def open(self, path, hash_=""):
        url = path if "://" in str(path) else Path(path).resolve().as_uri()
        self.page.goto(f"{url}{hash_}", wait_until="domcontentloaded")
        self.wait("document.documentElement.dataset.ready === '1'")
        return self

    def wait(self, expression):
        wait_until(self.page, expression)

    def settle(self):
        """Wait until every image in the viewport is there."""
        self.wait(
            """() => [...document.querySelectorAll('.slot img')].every((img) => {
                const slot = img.closest('.slot');
                return slot.hidden || slot.classList.contains('is-failed') || !img.hidden; })"""
        )
        self.page.wait_for_timeout(200)  # the URL follows the state after a pause
        return self

    def texts(self, selector):
        return self.page.eval_on_selector_all(selector, "nodes => nodes.map(n => n.textContent)")

    def rows(self):
        return self.texts(".row .label:not(.minor)")

    def columns(self):
        return self.texts(".col-head .label:not(.minor)")

    def labels(self):
        return self.page.eval_on_selector_all(
            ".slot:not([hidden])", "nodes => nodes.map(n => n.getAttribute('aria-label'))"
        )

    def hash(self):
        self.page.wait_for_timeout(200)
        return self.page.evaluate("location.hash")

    def keys(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def focus_grid(self):
        """Give the keys to the images, the ring to the first one."""
        self.page.focus("#plane")
        self.keys("Home")
        return self

    def ring(self):
        """What the image with the ring is called; None without one."""
        names = self.page.eval_on_selector_all(
            ".slot.is-cursor:not([hidden])", "nodes => nodes.map(n => n.getAttribute('aria-label'))"
        )
        assert len(names) <= 1, names
        return names[0] if names else None

    def slot(self, name):
        """The slot whose image is called so."""
        return self.page.locator(f'.slot[aria-label^="{name}"]')

    def title(self):
        return self.texts(".lightbox-title span")

    def toast(self):
        return self.page.inner_text(".toast")
