"""Which deliveries are acknowledged when."""

from relay.edges.amqp.consume import Window


def finish(window: Window, *tags: int) -> None:
    """Let these finish."""
    for tag in tags:
        window.finish(tag)


def test_what_has_finished_without_a_gap_goes_in_one_acknowledgement() -> None:
    """Contiguous deliveries are acknowledged together, up to the last of them."""
    window = Window(10)
    finish(window, 2, 1, 3)

    assert window.take() == [(3, True)]
    assert window.acknowledged == 3


def test_nothing_goes_past_an_unfinished_delivery() -> None:
    """A delivery behind an unfinished one waits for it."""
    window = Window(10)
    finish(window, 2, 3)

    assert window.take() == []
    window.finish(1)
    assert window.take() == [(3, True)]


def test_half_a_window_behind_a_slow_delivery_goes_singly() -> None:
    """One slow delivery does not keep a full window waiting, and is itself not acknowledged."""
    window = Window(4)
    finish(window, 2, 3, 4)

    assert window.take() == [(2, False), (3, False), (4, False)]
    window.finish(1)
    assert window.take() == [(1, True)]
    assert window.acknowledged == 4


def test_a_multiple_acknowledgement_never_names_a_tag_that_went_singly() -> None:
    """The broker knows a singly acknowledged tag no more, and would end the channel over it."""
    window = Window(4)
    finish(window, 2, 4, 5)
    window.take()
    finish(window, 1, 3)

    assert window.take() == [(3, True)]
    window.finish(6)
    assert window.take() == [(6, True)]


def test_a_drain_takes_everything_that_has_finished() -> None:
    """On the way out what has finished is acknowledged, whatever is unfinished before it."""
    window = Window(100)
    finish(window, 1, 3)

    assert window.take(everything=True) == [(1, True), (3, False)]
