"""What a job, its states and its errors say of themselves."""

import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.job import ADVICE, NOWHERE, TERMINAL, ErrorCode, State, new_job_id, new_key, ulid
from tests.core.strategies import a_job, a_spec, an_error


@pytest.mark.parametrize("state", State)
def test_four_states_are_final(state: State) -> None:
    """Exactly the four ways to end are terminal."""
    assert (state in TERMINAL) == state.terminal == (state.value in {"succeeded", "failed", "canceled", "expired"})


def test_every_error_code_has_its_advice() -> None:
    """Whoever reads an error code finds out what to do about it."""
    assert set(ErrorCode) == set(ADVICE)


def test_details_add_up() -> None:
    """Further details stand beside those that were there."""
    error = an_error(details={"seconds": 30}).with_details(vendorCancel="asked")

    assert {"seconds": 30, "vendorCancel": "asked"} == error.details


def test_a_job_waits_in_its_connections_lane() -> None:
    """Jobs of one connection share a lane."""
    assert "datameer-prod" == a_job().lane
    assert NOWHERE == a_job(spec=a_spec(connection="")).lane


moments = st.floats(0, 2**48 / 1000 - 1)
entropies = st.binary(min_size=10, max_size=10)


@given(moments, moments, entropies, entropies)
def test_ids_sort_by_time(one: float, other: float, some: bytes, more: bytes) -> None:
    """Of two ids the one made in an earlier millisecond comes first."""
    assert (int(one * 1000) < int(other * 1000)) <= (ulid(one, some) < ulid(other, more))


@given(moments, entropies)
def test_an_id_holds_all_that_it_was_made_of(now: float, entropy: bytes) -> None:
    """A job's id is `job_` and 26 characters without I, L, O and U, from which time and entropy can be read again."""
    name = new_job_id(now, entropy)
    assert re.fullmatch(r"job_[0-7][0-9A-HJKMNP-TV-Z]{25}", name)

    digits = name.removeprefix("job_").translate(str.maketrans("JKMNPQRSTVWXYZ", "IJKLMNOPQRSTUV"))
    assert (int(now * 1000), entropy) == (int(digits, 32) >> 80, (int(digits, 32) % 2**80).to_bytes(10))


@given(st.binary(min_size=16, max_size=16))
def test_a_key_is_a_random_uuid(entropy: bytes) -> None:
    """Of version 4, with all that it was made of but the six bits that say so."""
    assert str(uuid.UUID(bytes=entropy, version=4)) == new_key(entropy)


def test_secrets_of_a_request_are_not_in_its_repr() -> None:
    """Parameters and webhooks may hold secrets: a job's repr has neither."""
    secret = "s3cr3t-canary"
    spec = a_spec(parameters={"password": secret}, webhooks=({"secretKey": secret},))

    assert secret not in repr(a_job(spec=spec))
