"""Both ends of tracking speak the same two messages."""

from __future__ import annotations

import pytest

from promptlab.tracking.messages import News, Order


def test_a_message_arrives_as_it_was_sent() -> None:
    order = Order("follow", "runs/é", {"uri": None, "flush_s": 2.0})
    assert Order.from_line(order.to_line()) == order
    news = News(num_left=3, warning="a\nb", is_finished=True)
    assert News.from_line(news.to_line()) == news
    assert news.to_line().count(b"\n") == 1


def test_a_field_that_the_other_end_does_not_know_is_an_error() -> None:
    with pytest.raises(ValueError, match="no News"):
        News.from_line(b'{"logged": 3}')
    with pytest.raises(ValueError, match="Expecting value"):
        Order.from_line(b"part\n")
