"""What goes wrong at a stand-in server, and when."""

from relay.simulators.faults import Fault, Faults


def struck(faults: Faults, *asked: tuple[str, str, str]) -> list[str | None]:
    """The harm that befalls each request: what it is, what about, which job's."""
    strikes = [faults.strike(*request) for request in asked]
    return [fault.harm if fault else None for fault in strikes]


def test_a_fault_strikes_as_often_as_it_says() -> None:
    """Once, twice or for ever."""
    faults = Faults([Fault(on="submit", harm="busy", times=2), Fault(on="poll", harm="html", times=None)])
    expected = ["busy", "busy", None, "html", "html"]
    actual = struck(faults, *[("submit", "", "a")] * 3, *[("poll", "", "a")] * 2)

    assert expected == actual


def test_a_fault_can_strike_each_job_by_itself() -> None:
    """So that a hundred jobs of one recipe all lose their first answer."""
    faults = Faults([Fault(on="submit", harm="lost", each_job=True)])
    expected = ["lost", None, "lost"]
    actual = struck(faults, ("submit", "5", "a"), ("submit", "5", "a"), ("submit", "5", "b"))

    assert expected == actual


def test_a_fault_can_be_about_one_subject_or_any_request() -> None:
    """What is narrower comes first."""
    faults = Faults([Fault(on="any", harm="down", times=1), Fault(on="submit", subject="5", harm="reset")])
    expected = ["reset", "down", None]
    actual = struck(faults, ("submit", "5", "a"), ("poll", "6", "a"), ("submit", "5", "a"))

    assert expected == actual


def test_a_share_of_requests_is_drawn_from_the_seed() -> None:
    """The same seed strikes the same requests."""
    fault = Fault(on="submit", harm="lost", share=0.5, times=None)
    asked = [("submit", "", "a")] * 100
    one, again, other = (struck(Faults([fault], seed=seed), *asked) for seed in (1, 1, 2))

    assert one == again
    assert one != other
    assert 20 < one.count("lost") < 80


def test_clearing_brings_back_the_first_state() -> None:
    """Added faults go, and the first ones are as if they had never struck."""
    faults = Faults([Fault(on="submit", harm="busy")])
    faults.add(Fault(on="poll", harm="html", times=None))
    struck(faults, ("submit", "", "a"))
    faults.clear()

    assert ["busy", None] == struck(faults, ("submit", "", "a"), ("poll", "", "a"))
    assert [fault.harm for fault in faults.listed()] == ["busy"]
