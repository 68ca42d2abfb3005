"""What is wrong with a declaration is told at load, each mistake at its line."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from relay import app
from relay.core.facts import Submitted
from relay.core.flow import Request, Response
from relay.settings import Settings, SettingsError, declarations_of, load
from relay.vendors import VENDORS
from relay.vendors.declared import Declaration, Mistakes, slips_in, vendor_of
from relay.vendors.declared.recorded import FILE
from tests.vendors.declared.declaring import (
    ANY,
    STATUS,
    SUBMIT,
    asked,
    connection,
    job,
    operation,
    submitted,
    told,
    tracked,
    vendor,
)

RUN = {"request": {"path": "/"}}


def mistakes(declare: Any) -> dict[str, str]:
    """What is wrong, by path."""
    with pytest.raises(Mistakes) as refused:
        declare()
    return {".".join(map(str, each.place)): each.message for each in refused.value.found}


def lines(tmp_path: Path, text: str) -> list[str]:
    """What a file's declaration is refused with, without the folder."""
    file = tmp_path / "acme.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError) as refused:
        declarations_of(file)
    return str(refused.value).replace(f"{tmp_path}/", "").splitlines()


# --- lines ---

RUN_AT = "acme.yaml line {}: vendors.acme.operations.run"
SHAPE = """\
auth: {type: bearer, tokn: x}
operations:
  run:
    submit: {request: {path: /a}, accpet: [200]}
    status:
      request: {path: /b, method: LOOK}
      map: {succeeded: [YES]}
  fly: {submit: {request: {path: /c}}}
"""
MEANING = """\
auth: {type: bearer}
operations:
  run:
    parameters: {properties: {report: {type: strnig}}}
    submit:
      request:
        method: POST
        path: reports/${parameters.reprot}
        json:
          deep: ["${jbo.id}", {at: 2026-01-01}]
      jobId: run..id
    status:
      request: {path: "/runs/${submit.id"}
      state: foo(state)
      map: {running: [RUNNING], failed: [RUNNING]}
"""


def test_every_wrong_field_is_told_with_its_line(tmp_path: Path) -> None:
    """A slip of the pen, what is missing, a word that YAML misreads, an operation that there is not."""
    expected = [
        "acme.yaml line 1: vendors.acme.auth.tokn: unknown field; did you mean token?",
        f"{RUN_AT.format(4)}.submit.accpet: unknown field; did you mean accept?",
        f"{RUN_AT.format(6)}.status.request.method: Input should be 'GET', 'POST', 'PUT', 'PATCH' or 'DELETE'",
        f"{RUN_AT.format(5)}.status.state: Field required",
        f"{RUN_AT.format(7)}.status.map.succeeded[0]: YAML reads this word as true or false: put it in quotes",
    ]
    *actual, fly = lines(tmp_path, SHAPE)

    assert expected == actual
    assert fly.startswith("acme.yaml line 8: vendors.acme.operations.fly: Input should be 'run', 'rerun', ")


def test_every_wrong_expression_is_told_with_its_line(tmp_path: Path) -> None:
    """Templates, expressions, schemas, and what does not go together."""
    actual = lines(tmp_path, MEANING)
    expected = [
        ("line 1: vendors.acme.auth: ", "the type bearer needs `token`"),
        ("line 4: vendors.acme.operations.run.parameters.properties.report.type: ", "is no JSON Schema"),
        ("line 8: vendors.acme.operations.run.submit.request.path: ", "a path begins with a slash"),
        (
            "line 10: vendors.acme.operations.run.submit.request.json.deep[0]: ",
            "there is no `jbo` here; did you mean job",
        ),
        ("line 10: vendors.acme.operations.run.submit.request.json.deep[1].at: ", "a date is not JSON"),
        ("line 11: vendors.acme.operations.run.submit.jobId: ", "cannot be read from '.id' on"),
        ("line 13: vendors.acme.operations.run.status.request.path: ", "has a ${ without its }"),
        ("line 14: vendors.acme.operations.run.status.state: ", "there is no function foo()"),
        ("line 15: vendors.acme.operations.run.status.map.failed: ", "the word 'RUNNING' stands under `running`"),
        ("line 15: vendors.acme.operations.run.status.map: ", "has no word for `succeeded`"),
    ]

    assert len(expected) == len(actual)
    for place, what in expected:
        assert [line for line in actual if line.startswith(f"acme.yaml {place}") and what in line], (place, actual)


BOTH = """\
auth: {type: bearer, tokn: x}
headers: {X-Region: "${region}"}
operations:
  run:
    submit: {request: {path: "a"}, jobid: id}
    status: {request: {path: /b, method: LOOK}, state: a..b, map: {succeded: [DONE], failed: [ERROR]}}
  watch:
    submit: {request: {path: "c"}, jobId: id}
    status: {request: {path: /d}, map: {succeeded: [DONE], failed: [ERROR]}}
  status:
    submit: {request: {path: "e"}}
    staus: {}
  history:
    submit: {request: {path: "f"}, accept: 200, value: "$.items"}
"""


def test_wrong_fields_and_wrong_expressions_are_told_in_one_round(tmp_path: Path) -> None:
    """Whoever mends the first need not wait for the second; what may only follow from the first is not told."""
    paths = [line.partition("vendors.acme.")[2].partition(": ")[0] for line in lines(tmp_path, BOTH)]

    run = "operations.run."
    expected = ["auth.tokn", f"{run}submit.jobid", f"{run}status.request.method", f"{run}status.map.succeded"]
    expected += ["operations.watch.status.state", "operations.history.submit.accept", "operations.status.staus"]
    expected += ["headers.X-Region", f"{run}submit.request.path", f"{run}status.state"]
    expected += ["operations.history.submit.request.path", "operations.history.submit.value"]
    assert sorted(expected) == sorted(paths)


@pytest.mark.parametrize("given", [None, [], "x", {"operations": 7}, {"operations": {"run": 7}}, {"title": {}}, {}])
def test_what_has_no_shape_at_all_has_no_other_mistakes(given: Any) -> None:
    """There is nothing to read in it."""
    assert [] == list(slips_in("v", given))


def test_what_is_right_has_no_mistakes() -> None:
    """As in settings where something else is wrong."""
    assert [] == list(slips_in("v", {"operations": {"run": tracked()}}))


def test_what_follows_from_a_wrong_type_is_not_told() -> None:
    """The other fields are of the type that was meant."""
    given = {"auth": {"type": "Bearer", "token": "x"}, "operations": {"run": asked({"path": "a"})}}

    assert [("operations", "run", "submit", "request", "path")] == [each.place for each in slips_in("v", given)]


def test_settings_with_a_wrong_declaration_are_refused_with_its_place(tmp_path: Path) -> None:
    """In place, and in the file that they name, which is found beside them."""
    (tmp_path / "vendors").mkdir()
    (tmp_path / "vendors" / "acme.yaml").write_text(MEANING)
    file = tmp_path / "relay.yaml"
    file.write_text(
        "vendors:\n  acme: {file: vendors/acme.yaml}\n"
        "  other:\n    operations:\n      run: {submit: {request: {path: x}}}\n"
    )
    with pytest.raises(SettingsError) as refused:
        load(file, {})

    told = str(refused.value).splitlines()
    assert f"{tmp_path}/vendors/acme.yaml line 1: vendors.acme.auth: the type bearer needs `token`" in told
    assert [f"{file} line 5: vendors.other.operations.run.submit.request.path"] == [
        line.partition(": a path")[0] for line in told if "other" in line
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("vendors: {acme: {file: nowhere.yaml}}", "vendors.acme: {folder}/nowhere.yaml: cannot be read"),
        ("vendors: {trifacta: {operations: {}}}", "vendors.trifacta: relay has code for trifacta"),
        ("vendors: {Acme: {operations: {}}}", "vendors.Acme: String should match pattern"),
        ("vendors: {acme: {operations: {}}}", "vendors.acme.operations: Dictionary should have at least 1 item"),
        ("vendors: {acme: null}", "vendors.acme: "),
        ("vendors: 7", "vendors: "),
    ],
)
def test_what_is_no_declaration_is_refused(tmp_path: Path, text: str, why: str) -> None:
    """A missing file, a name that is taken, nothing at all."""
    file = tmp_path / "relay.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError) as refused:
        load(file, {})

    assert why.format(folder=tmp_path) in str(refused.value)


def test_a_body_that_looks_like_a_secrets_place_is_a_body(tmp_path: Path) -> None:
    """`{file: …}` names a secret's file in other settings; in a declaration it is what is sent."""
    file = tmp_path / "relay.yaml"
    body = "{file: '${parameters.file}'}"
    file.write_text(
        "vendors:\n  v:\n    operations:\n      run:\n        parameters: {properties: {file: {}}}\n"
        f"        submit: {{request: {{method: POST, path: /, json: {body}}}}}\n"
    )

    assert {"file": "${parameters.file}"} == load(file, {}).vendors["v"].operations["run"].submit.request.json_


def test_settings_given_as_such_are_checked_too(tmp_path: Path) -> None:
    """Without a file there are no lines, but the same words."""
    given = Settings.model_validate({"vendors": {"v": {"operations": {"run": {"submit": {"request": {"path": "x"}}}}}}})
    with pytest.raises(SettingsError, match=r"vendors: operations\.run\.submit\.request\.path: a path begins"):
        app.vendors_of(given)


def test_a_file_of_settings_is_no_declaration(tmp_path: Path) -> None:
    """Whoever names one, such as one that `relay vendors validate` finds fine, is told what to leave in it."""
    (tmp_path / "acme.yaml").write_text("vendors: {acme: {operations: {}}}\n")
    file = tmp_path / "relay.yaml"
    file.write_text("vendors:\n  acme: {file: acme.yaml}\n")
    with pytest.raises(SettingsError) as refused:
        load(file, {})

    why = "acme.yaml holds `vendors`, as settings do: leave in it what is under the vendor's name"
    assert f"{file} line 2: vendors.acme: {why}" == str(refused.value)


def test_a_file_of_settings_is_checked_for_all_its_vendors(tmp_path: Path) -> None:
    """And one without `vendors` is a vendor called as the file."""
    both = tmp_path / "relay.yaml"
    both.write_text(
        f"http: {{port: 1}}\nvendors:\n  a: {{file: {FILE}}}\n  b:\n    operations: {{run: {{submit: {RUN}}}}}\n"
    )
    one = tmp_path / "My Vendor.yaml"
    one.write_text(FILE.read_text())

    assert ["a", "b"] == list(declarations_of(both))
    assert ["my-vendor"] == list(declarations_of(one))


# --- what goes together ---

OTHERS = ("{{parameters.report}}", "a $parameters.report", "{ job.id }{job.id}", "costs $5 {a} {{b}} x$parameters.y")

BAD: Mapping[str, tuple[Mapping[str, Any], Mapping[str, str]]] = {
    "a tracked operation without jobId": (
        {"run": tracked(submit={"request": {"path": "/"}})},
        {"operations.run.submit": "needs `jobId`"},
    ),
    "parts that need a status": (
        {
            "run": {
                "submit": RUN,
                "find": {**RUN, "jobId": "id"},
                "cancel": RUN,
                "callback": {},
                "result": RUN,
            }
        },
        {f"operations.run.{name}": "goes with `status`" for name in ("find", "cancel", "callback", "result")},
    ),
    "an immediate operation's state without its words": (
        {"run": {"submit": {**RUN, "state": "state"}}},
        {"operations.run.submit": "`state` and `map` go together"},
    ),
    "an immediate operation's parts in a tracked one": (
        {"run": tracked(submit={**SUBMIT, "value": "x", "state": "s", "map": STATUS["map"]})},
        {f"operations.run.submit.{name}": "goes without `status`" for name in ("value", "state", "map")},
    ),
    "two bodies": (
        {"run": asked({"path": "/", "method": "POST", "json": {}, "form": {}})},
        {"operations.run.submit.request.form": "either `json` or `form`"},
    ),
    "a template as a key": (
        {"run": asked({"path": "/", "method": "POST", "json": {"${job.id}": 1}})},
        {"operations.run.submit.request.json.${job.id}": "a key is no template"},
    ),
    "a body without an end": (
        {"run": asked({"path": "/", "method": "POST", "json": json.loads("[" * 60 + "]" * 60)})},
        {"operations.run.submit.request.json" + ".0" * 46: "a body has at most 50 levels"},
    ),
    "the id before there is one": (
        {"run": asked({"path": "/${job.vendorJobId}"})},
        {"operations.run.submit.request.path": "there is no `job.vendorJobId` here"},
    ),
    "the address after it is given": (
        {"run": tracked(cancel={"request": {"path": "/${job.callbackUrl}"}})},
        {"operations.run.cancel.request.path": "there is no `job.callbackUrl` here"},
    ),
    "the submit's answer before there is one": (
        {"run": asked({"path": "/${submit.id}"})},
        {"operations.run.submit.request.path": "there is no `submit` here"},
    ),
    "a parameter that there is not": (
        {
            "run": {
                "parameters": {"properties": {"report": {}}},
                "submit": {"request": {"path": "/${parameters.reprot}"}},
            }
        },
        {"operations.run.submit.request.path": "there is no `parameters.reprot` here; did you mean parameters.report?"},
    ),
    "every secret at once": (
        {"run": asked({"path": "/", "query": {"a": "${connection}", "b": "${@}", "c": "${connection.*}"}})},
        {f"operations.run.submit.request.query.{name}": "would hand out every secret" for name in "abc"},
    ),
    "a parameter among the credentials": (
        {"auth": {"type": "bearer", "token": "${parameters.token}"}},
        {"auth.token": "there is no `parameters` here"},
    ),
    "a field of another type": (
        {"auth": {"type": "bearer", "token": "x", "password": "y", "in": "query"}},
        {"auth.password": "the type bearer has no such field", "auth.in": "the type bearer has no such field"},
    ),
    "a signature without its header": (
        {"run": tracked(callback={"verify": {"type": "hmacSha256", "username": "x"}})},
        {
            "operations.run.callback.verify": "the type hmacSha256 needs `header`",
            "operations.run.callback.verify.username": "the type hmacSha256 has no such field",
        },
    ),
    "a path with a query": (
        {"run": asked({"path": "/a?b=1"})},
        {"operations.run.submit.request.path": "write what follows under `query`"},
    ),
    "a path that is not encoded": (
        {"run": asked({"path": "/a b"})},
        {"operations.run.submit.request.path": "is written percent-encoded"},
    ),
    "a path in another language": (
        {"run": asked({"path": "/a/{report}"})},
        {"operations.run.submit.request.path": "a value is put in by ${…}"},
    ),
    "templates of other languages": (
        {"run": asked({"path": "/", "query": dict(zip("abcd", OTHERS, strict=True))})},
        {
            f"operations.run.submit.request.query.{name}": f"would be sent as it is written: a value is put in by {way}"
            for name, way in {
                "a": "`${parameters.report}`; to send it as it is, quote it, as in `${'{{parameters.report…'}`",
                "b": "`${parameters.report}`",
                "c": "`${job.id}`",
            }.items()
        },
    ),
    "names without what they are in": (
        {
            "auth": {"type": "bearer", "token": "${token}"},
            "run": {
                "parameters": {"properties": {"report": {}}},
                "submit": {"request": {"path": "/", "query": {"a": "${report}", "b": "${key}", "c": "${odd}"}}},
            },
        },
        {
            "auth.token": "there is no `token` here; did you mean connection.token?",
            "operations.run.submit.request.query.a": "did you mean parameters.report?",
            "operations.run.submit.request.query.b": "did you mean job.key?",
            "operations.run.submit.request.query.c": "there are: connection, job, parameters",
        },
    ),
    "a parameter where there are none": (
        {"run": {"submit": {"request": {"path": "/${parameters.report}"}}}},
        {"operations.run.submit.request.path": "the operation takes no parameters, unless they are declared"},
    ),
    "a parameter in a path that may be left out": (
        {
            "run": {
                "parameters": {"required": ["a"], "properties": {"a": {}, "b": {}, "c": {}}},
                "submit": {"request": {"path": "/${parameters.a}/${parameters.b.c}/${parameters.c || 'x'}"}},
            }
        },
        {"operations.run.submit.request.path": "`parameters.b` may be left out, and a path needs it"},
    ),
    "a state and an id that are the same in every answer": (
        {"run": tracked(submit={**SUBMIT, "jobId": "'id'"}, status={**STATUS, "state": "`1`"})},
        {
            "operations.run.submit.jobId": "'id' looks at nothing: it is the same in every answer; a name goes without "
            "quotes, and what stands for a missing one behind it, as in `id || 'id'`",
            "operations.run.status.state": "looks at nothing",
        },
    ),
    "words without an end that is bad": (
        {"run": tracked(status={**STATUS, "map": {"succeeded": ["DONE"]}}, cancel=RUN)},
        {"operations.run.status.map": "has nothing for `canceled`: give the vendor's words, or `canceled: []` if it "},
    ),
    "two values for a header": (
        {"auth": {"type": "bearer", "token": "x"}, "headers": {"authorization": "y"}},
        {"headers.authorization": "`auth` gives this header its value"},
    ),
    "a key and its header": (
        {
            "auth": {"type": "apiKey", "name": "X-Key", "value": "x"},
            "run": asked({"path": "/", "headers": {"x-key": "y"}}),
        },
        {"operations.run.submit.request.headers.x-key": "`auth` gives this header its value"},
    ),
    "a path that leads up": (
        {"run": asked({"path": "/a/%2E./b"})},
        {"operations.run.submit.request.path": "does not hold the segments . and .."},
    ),
}


@pytest.mark.parametrize(("parts", "expected"), BAD.values(), ids=BAD)
def test_what_does_not_fit_together_is_told(parts: Any, expected: Mapping[str, str]) -> None:
    """All of it, each at its place."""
    actual = mistakes(lambda: vendor(**parts))

    assert expected.keys() == actual.keys()
    assert all(why in actual[place] for place, why in expected.items()), actual


def test_a_setting_cannot_be_called_as_one_of_relays_own() -> None:
    """It would never come to the vendor."""
    declaration = declarations_of(FILE)["acme"]
    found = mistakes(lambda: vendor_of("acme", declaration, {"token"}))

    assert {"auth.token": "connection.token is relay's own setting of a connection: call this one otherwise"} == found


# --- a connection's settings ---


def test_a_connection_has_the_settings_that_the_templates_name() -> None:
    """Those with something to fall back to may be left out; all are secrets."""
    both = vendor(
        auth={"type": "basic", "username": "${connection.user}", "password": "${connection.password}"},
        headers={"X-Region": "${connection.region || 'eu'}"},
    )
    options = both.options.model_validate({"user": "relay", "password": 7})

    assert ["user", "password", "region"] == list(both.options.model_json_schema()["properties"])
    assert ["user", "password"] == both.options.model_json_schema()["required"]
    assert {"user": "relay", "password": "7"} == options.texts()  # type: ignore[attr-defined]
    assert "relay" not in repr(options)


@pytest.mark.parametrize("bad", [{}, {"token": ""}, {"token": "a\nb"}, {"token": "a", "tokn": "b"}, {"token": True}])
def test_a_connection_without_its_settings_is_refused(bad: Mapping[str, Any]) -> None:
    """A missing one, one that no header takes, one that nothing speaks of."""
    model = vendor(auth={"type": "bearer", "token": "${connection.token}"}).options
    with pytest.raises(ValidationError):
        model.model_validate(bad)


def test_one_declaration_serves_many_connections(tmp_path: Path) -> None:
    """Each with secrets of its own, from where secrets come."""
    (tmp_path / "token").write_text("from a file\n")
    file = tmp_path / "relay.yaml"
    file.write_text(
        f"vendors: {{acme: {{file: {FILE}}}}}\n"
        "connections:\n"
        f"  one: {{vendor: acme, baseUrl: https://a.test, token: {{file: {tmp_path}/token}}}}\n"
        "  two: {vendor: acme, baseUrl: https://b.test, token: {env: TOKEN}}\n"
    )
    settings = load(file, {"TOKEN": "from a variable"})
    vendors = app.vendors_of(settings)
    accounts = app.accounts_of(settings, vendors)

    assert {*VENDORS, "acme"} == set(vendors)
    assert accounts["one"].vendor is accounts["two"].vendor
    assert ["from a file", "from a variable"] == [
        accounts[name].connection.options.texts()["token"]  # type: ignore[attr-defined]
        for name in ("one", "two")
    ]


def test_a_connection_with_a_wrong_setting_says_which_is_meant(tmp_path: Path) -> None:
    """As with a vendor that has code."""
    file = tmp_path / "relay.yaml"
    file.write_text(
        f"vendors: {{acme: {{file: {FILE}}}}}\n"
        "connections: {one: {vendor: acme, baseUrl: https://a.test, tokn: x}}\n"
    )
    settings = load(file, {})
    with pytest.raises(SettingsError) as refused:
        app.accounts_of(settings, app.vendors_of(settings))

    assert "connections.one.token: Field required" in str(refused.value)
    assert "connections.one.tokn: unknown field; did you mean token?" in str(refused.value)


def test_numbers_are_texts_where_texts_are_sent() -> None:
    """As far as the text is to be known again: 1.10 is not 1.1, nor yes true."""
    declared = Declaration.model_validate({"operations": {"run": asked({"path": "/", "query": {"limit": 100}})}})
    with pytest.raises(ValidationError, match="as a number with a fraction: put it in quotes"):
        Declaration.model_validate({"operations": {"run": asked({"path": "/", "query": {"version": 1.10}})}})

    assert {"limit": "100"} == declared.operations["run"].submit.request.query


@pytest.mark.parametrize("name", ["X Y", "Content-Length", "transfer-encoding", ""])
def test_a_header_that_cannot_be_sent_is_refused(name: str) -> None:
    """By its name alone."""
    with pytest.raises(ValidationError, match="header"):
        Declaration.model_validate({"headers": {name: "x"}, "operations": {"run": asked({"path": "/"})}})


def test_a_vendor_whose_jobs_cannot_fail_says_so() -> None:
    """An empty list is an answer, a missing one is not."""
    assert "run" in vendor(run=tracked(status={**STATUS, "map": {"succeeded": ["DONE"], "failed": []}})).operations


def test_what_is_refused_as_a_slip_can_be_meant() -> None:
    """Another system's template that is to be sent, a vendor that has one job and so no ids, one whose canceled jobs
    look like others that end."""
    words = {"succeeded": ["DONE"], "failed": ["ERROR"], "canceled": []}
    request = {"path": "/jobs", "method": "POST", "json": {"name": "${'{{job.id}}'}"}}
    only = tracked(submit={"request": request, "jobId": "id || 'only'"}, status={**STATUS, "map": words}, cancel=RUN)
    declared = vendor(run=only)
    sent = submitted(declared)

    assert isinstance(sent, Request)
    assert {"name": "{{job.id}}"} == sent.json
    fact = told(operation(declared).submit(connection(declared), job(), None), Response(status=200, body=b"{}"))
    assert isinstance(fact, Submitted)
    assert "only" == fact.ref.id


def test_words_may_be_numbers() -> None:
    """Some vendors count their states."""
    declared = vendor(run=tracked(parameters=ANY, status={**STATUS, "map": {"succeeded": [0], "failed": [1, -1]}}))

    assert "run" in declared.operations
