"""The page of the queue in a real browser, as a phone: wishes, their order, a dead connection."""

import pytest

from tests.serve.drawing import Drawing
from tests.serve.test_pages import PHONE, forgive_the_dead_connection

pytestmark = pytest.mark.browser


@pytest.fixture
def phone(browse, site):
    page = browse(**PHONE)
    page.open(f"{site.address}/")
    page.wait("document.querySelectorAll('.styles .chip').length > 3")
    return page


def ask_for(page, text):
    page.page.fill(".words", text)
    page.page.tap(".draw")


def titles(page, selector=".entry"):
    return page.texts(f"{selector} .entry-title")


def test_an_idea_is_planned_before_it_is_sent_and_then_queued(phone, site):
    phone.page.fill(".words", "a fox\na robot")
    phone.page.tap(".styles .chip >> nth=1")
    phone.page.tap("[aria-label='More seeds']")
    phone.wait("document.querySelector('.draw').textContent === 'Draw 4'")
    assert "4 images in 2 cells, 1 of them drawn before" in phone.page.inner_text(".plan")
    phone.page.tap(".draw")
    phone.wait("document.querySelectorAll('.entry.is-waiting').length === 1")
    assert titles(phone) == ["a fox, a robot"]
    (entry,) = site.queue.entries()
    assert "subject=a fox,a robot" in entry.argv
    assert "seeds=6" in entry.argv
    assert any(argument.startswith("style=") for argument in entry.argv)
    assert phone.page.input_value(".words") == "", "ready for the next idea"


def test_a_whole_prompt_goes_in_as_it_is_written(phone, site):
    phone.page.click(".modes button >> nth=1")
    ask_for(phone, "a {fox|robot}, $5, 'quoted'")
    phone.wait("document.querySelectorAll('.entry.is-waiting').length === 1")
    (entry,) = site.queue.entries()
    assert "style=none" in entry.argv
    assert any("quoted" in argument for argument in entry.argv)


def test_a_line_that_is_refused_says_why_and_is_not_sent(phone, site):
    phone.page.click(".modes button >> nth=2")
    phone.page.fill(".words", "promptlab sweep subject=x runs_dir=/tmp")
    phone.wait("document.querySelector('.plan.is-refused') !== null")
    assert "runs_dir" in phone.page.inner_text(".plan")
    assert phone.page.is_disabled(".draw")
    assert site.queue.entries() == []
    phone.problems[:] = [p for p in phone.problems if "400" not in p]


def test_entries_are_reordered_and_cancelled(phone, site):
    for name in ("one", "two", "three"):
        site.queue.add([f"subject={name}"], num_images=4)
    phone.wait("document.querySelectorAll('.entry.is-waiting').length === 3")
    phone.page.locator(".entry", has_text="three").get_by_label("before the one above").tap()
    phone.wait("document.querySelectorAll('.entry-title')[1].textContent === 'three'")
    assert titles(phone) == ["one", "three", "two"]
    phone.page.locator(".entry", has_text="one").get_by_text("Cancel").tap()
    phone.wait("document.querySelectorAll('.entry.is-cancelled').length === 1")
    assert [entry.argv[0] for entry in site.queue.entries()][:2] == ["subject=three", "subject=two"]
    phone.page.locator(".is-cancelled").get_by_text("Other seeds").tap()
    phone.wait("document.querySelectorAll('.entry.is-waiting').length === 3")


def test_ideas_without_a_connection_are_kept_and_sent_later(phone, site):
    context = phone.page.context
    context.set_offline(True)
    ask_for(phone, "a fox in the rain")
    ask_for(phone, "a robot in the snow")
    phone.wait("document.querySelectorAll('.entry.is-unsent').length === 2")
    assert "No connection" in phone.page.inner_text("#state")
    phone.page.close()
    context.set_offline(False)
    again = context.new_page()
    again.goto(f"{site.address}/")
    again.wait_for_selector(".entry.is-waiting >> nth=1")
    assert {entry.argv[0] for entry in site.queue.entries()} == {
        "subject=a fox in the rain",
        "subject=a robot in the snow",
    }
    forgive_the_dead_connection(phone)


def test_what_is_drawn_shows_its_bar_and_its_newest_images_and_leads_to_its_sheet(phone, site):
    drawing = Drawing(site.runs_dir / "20261128_1200_foxes", site.queue)
    drawing.draw(6)
    (entry,) = site.queue.entries()
    phone.wait("document.querySelectorAll('.entry.is-drawing .thumbs img').length === 6")
    phone.page.tap(".entry.is-drawing .primary")
    phone.page.wait_for_url("**/runs/20261128_1200_foxes/**")
    phone.page.wait_for_selector(".slot")
    assert entry.status == "drawing"
    drawing.close()


def test_a_connection_that_is_back_clears_what_was_said_and_brings_lost_images(phone, site):
    drawing = Drawing(site.runs_dir / "20261128_1200_foxes", site.queue)
    context = phone.page.context
    phone.page.route("**/thumbnails/*", lambda route: route.abort())
    drawing.draw(3)
    phone.wait("document.querySelectorAll('.entry.is-drawing').length === 1")
    context.set_offline(True)
    phone.wait("document.getElementById('state').textContent !== ''")
    context.set_offline(False)
    phone.wait("document.getElementById('state').textContent === ''")
    phone.page.unroute("**/thumbnails/*")
    phone.wait(
        "[...document.querySelectorAll('.thumbs img')].filter((i) => i.naturalWidth).length === 3"
    )
    drawing.close()
    phone.problems.clear()


def test_who_may_not_draw_sees_no_form_and_no_buttons(browse, site):
    drawing = Drawing(site.runs_dir / "20261128_1200_foxes", site.queue)
    drawing.draw(6)
    page = browse(**PHONE)
    token = site.tokens.add("rate", "friends")
    cookie = {"name": f"promptlab_{site.port}", "value": token, "url": site.address}
    page.page.context.add_cookies([cookie])
    page.open(f"{site.address}/")
    page.wait("document.querySelector('.compose').hidden")
    page.wait("document.querySelectorAll('.entry.is-drawing .thumbs img').length === 6")
    assert page.texts(".entry-actions > *") == ["Watch"]
    page.page.get_by_text("All runs").tap()
    page.page.wait_for_selector(".runs a:has-text('20261128_1200_foxes')")
    drawing.close()


def test_words_of_others_are_text(phone, site):
    site.queue.add(["subject=<img src=x onerror=\"document.title='owned'\">"], num_images=4)
    phone.wait("document.querySelectorAll('.entry.is-waiting').length === 1")
    assert "<img" in titles(phone)[0]
    assert phone.page.title() == "promptlab"


def test_an_idea_that_comes_while_another_is_sent_is_sent_after_it(phone, site):
    held = []
    phone.page.route("**/api/queue", lambda route: held.append(route), times=1)
    ask_for(phone, "a fox")
    ask_for(phone, "a robot")
    phone.wait("document.querySelectorAll('.entry.is-unsent').length === 2")
    while not held:
        phone.page.wait_for_timeout(20)
    held[0].continue_()
    phone.page.wait_for_selector(".entry.is-waiting >> nth=1", timeout=8000)
    assert [entry.argv[0] for entry in site.queue.entries()] == ["subject=a fox", "subject=a robot"]
    phone.wait("document.querySelectorAll('.entry.is-unsent').length === 0")


def test_a_double_click_on_cancel_spares_the_entry_that_moves_up(phone, site):
    for name in ("one", "two", "three"):
        site.queue.add([f"subject={name}"], num_images=4)
    phone.wait("document.querySelectorAll('.entry.is-waiting').length === 3")
    cancel = phone.page.locator(".entry.is-waiting", has_text="one").get_by_text("Cancel")
    box = cancel.bounding_box()
    phone.page.mouse.move(box["x"] + 5, box["y"] + 5)
    for count in (1, 2):
        phone.page.mouse.down(click_count=count)
        phone.page.mouse.up(click_count=count)
        phone.wait("document.querySelectorAll('.entry.is-cancelled').length === 1")
    phone.page.locator(".entry.is-waiting", has_text="three").get_by_text("Cancel").click()
    phone.page.wait_for_selector(".is-cancelled:has-text('three')", timeout=8000)
    assert titles(phone, ".is-waiting") == ["two"]


def test_a_double_click_on_discard_spares_the_idea_that_moves_up(phone):
    phone.page.context.set_offline(True)
    for text in ("one", "two", "three"):
        ask_for(phone, text)
    phone.wait("document.querySelectorAll('.entry.is-unsent').length === 3")
    phone.page.get_by_text("Discard").first.dblclick()
    assert titles(phone, ".is-unsent") == ["two", "three"]
    forgive_the_dead_connection(phone)
