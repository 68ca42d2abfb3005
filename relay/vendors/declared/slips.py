"""What is wrong with a declaration besides its shape, so that its author is told all in one reading."""

import copy
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import ValidationError

from relay.vendors.declared.plans import Mistake, Mistakes, Place, plan_of
from relay.vendors.declared.wire import Declaration


def slips_in(name: str, given: Any, reserved: Iterable[str] = ()) -> Sequence[Mistake]:
    """The mistakes in what is of the right shape. What is not is left out, and with it whatever may hang on it: what is
    told here stays wrong once the shape is right."""
    rest, cuts = copy.deepcopy(given), list[Place]()
    while True:  # for each round leaves something out
        try:
            plan_of(name, Declaration.model_validate(rest), reserved)
        except ValidationError as error:
            found = {_cut(tuple(each["loc"]), each["type"]) for each in error.errors(include_url=False)}
            left_out = [_leave_out(rest, cut) for cut in found]
            if True not in left_out:
                return ()
            cuts += found
        except Mistakes as mistakes:
            return [each for each in mistakes.found if not any(_touch(each.place, cut) for cut in cuts)]
        else:
            return ()


def _cut(loc: Place, kind: str) -> Place:
    """What is left out for a field of a wrong shape: a list as a whole, what a `type` or something missing is a part
    of, an operation for one of its own parts."""
    place = tuple(part for part in loc if part != "[key]")
    numbers = [at for at, part in enumerate(place) if isinstance(part, int)]
    place = place[: numbers[0]] if numbers else place
    if place[-1:] == ("type",):
        place = place[:-1]
    whole = place[:2] if place[:1] == ("operations",) else place[:1]
    return whole if kind == "missing" or len(place) == 3 else place


def _leave_out(given: Any, place: Place) -> bool:
    """Whether there was such a place, which now is none."""
    for part in place[:-1]:
        given = given.get(part) if isinstance(given, dict) else None
    if not place or not isinstance(given, dict) or place[-1] not in given:
        return False
    del given[place[-1]]
    return True


def _touch(one: Place, other: Place) -> bool:
    """Whether one is in the other."""
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]
