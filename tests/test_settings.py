"""Settings: where each comes from, and how a wrong one is told without a word of any secret."""

from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from relay.core.schedule import WEBHOOK_SCHEDULE
from relay.settings import Settings, SettingsError, Sources, load

WHOLE = """
amqp:
  url: amqp://relay:pa%2Fss@rabbitmq/
  declare: false
  replyTo: [answers., team.]
  eventsQueue: null
database: {url: "sqlite:////var/lib/relay/relay.db"}
http: {host: 0.0.0.0, port: 9090, publicUrl: "https://relay.example.com/base"}
egress: {allow: [10.1.0.0/16, hooks.internal], allowHttp: true}
connections:
  tri-prod:
    vendor: trifacta
    baseUrl: https://trifacta.example.com
    token: t
    operations: [run, status]
    maxConcurrency: 8
    requestsPerSecond: 10.5
    tls: {caFile: /ca.pem}
    proxy: http://user:secret@proxy:3128
    runParametersPlacement: overrides
tokens:
  - {name: ci, sha256: "ZEROS", scopes: [read, submit], connections: [tri-prod]}
log: {level: debug, format: console}
shutdownTimeout: 5
""".replace("ZEROS", "0" * 64)


def of(tmp_path: Path, text: str, **environ: str) -> Settings:
    """The settings of this file and environment."""
    return load(written(tmp_path, text), environ)


def written(tmp_path: Path, text: str | bytes) -> Path:
    """A settings file."""
    path = tmp_path / "relay.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def complaint(tmp_path: Path, text: str | bytes, **environ: str) -> str:
    """What is wrong, without the file's own name."""
    path = written(tmp_path, text)
    with pytest.raises(SettingsError) as refused:
        load(path, environ)
    return str(refused.value).replace(str(path), "relay.yaml")


# --- where they come from ---


def test_without_anything_there_are_defaults() -> None:
    """A relay without broker on a file beside it, for this machine alone."""
    settings = load(None, {})

    assert (None, "sqlite:///relay.db", "127.0.0.1", 8080, {}, "info") == (
        settings.amqp,
        settings.database.url.get_secret_value(),
        settings.http.host,
        settings.http.port,
        dict(settings.connections),
        settings.log.level,
    )


def test_a_file_says_everything(tmp_path: Path) -> None:
    """In camelCase, as the contract has it; a vendor's own settings go along as given."""
    settings = of(tmp_path, WHOLE)
    connection = settings.connections["tri-prod"]

    assert settings.amqp is not None
    assert ("amqp://relay:pa%2Fss@rabbitmq/", False, ("answers.", "team."), None) == (
        settings.amqp.url[0].get_secret_value(),
        settings.amqp.declare_,
        settings.amqp.reply_to,
        settings.amqp.events_queue,
    )
    assert (9090, "https://relay.example.com/base", True, 5.0) == (
        settings.http.port,
        settings.http.public_url,
        settings.egress.allow_http,
        settings.shutdown_timeout,
    )
    assert (8, 10.5, "/ca.pem", ("run", "status")) == (
        connection.max_concurrency,
        connection.requests_per_second,
        connection.tls.ca_file,
        connection.operations,
    )
    assert {"token": "t", "runParametersPlacement": "overrides"} == connection.options


def test_the_environment_goes_over_the_file(tmp_path: Path) -> None:
    """Value by value: what it does not name stays."""
    settings = of(tmp_path, WHOLE, RELAY_HTTP__PORT="1", RELAY_LOG__LEVEL="error", RELAY_AMQP__EVENTS_QUEUE="q")

    assert (1, "0.0.0.0", "error", "console") == (  # noqa: S104 - as the file has it
        settings.http.port,
        settings.http.host,
        settings.log.level,
        settings.log.format,
    )
    assert settings.amqp is not None
    assert "q" == settings.amqp.events_queue


def test_the_file_is_named_by_argument_or_variable(tmp_path: Path) -> None:
    """The argument goes first."""
    path = written(tmp_path, "http: {port: 1}")
    other = tmp_path / "other.yaml"
    other.write_text("http: {port: 2}")

    assert [1, 2] == [
        load(None, {"RELAY_CONFIG": str(path)}).http.port,
        load(other, {"RELAY_CONFIG": str(path)}).http.port,
    ]


def test_without_arguments_the_process_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As every program does it."""
    monkeypatch.setenv("RELAY_HTTP__PORT", "7")

    assert 7 == load().http.port


@pytest.mark.parametrize(
    "name", ["RELAY_HTTP__PUBLIC_URL", "RELAY_HTTP__PUBLICURL", "RELAY_HTTP__Public_Url", "RELAY_HTTP__publicUrl"]
)
def test_the_letters_of_a_variable_decide(name: str) -> None:
    """Neither case nor underscores do."""
    assert "https://r" == load(None, {name: "https://r"}).http.public_url


@pytest.mark.parametrize("name", ["TRI_PROD", "tri-prod", "TriProd"])
def test_a_variable_finds_the_files_connection_by_its_letters(tmp_path: Path, name: str) -> None:
    """A variable's name cannot hold a dash: a secret for `tri-prod` comes under TRI_PROD."""
    settings = of(tmp_path, WHOLE, **{f"RELAY_CONNECTIONS__{name}__TOKEN": "from outside"})

    assert ["tri-prod"] == list(settings.connections)
    assert "from outside" == settings.connections["tri-prod"].options["token"]


def test_a_connection_may_come_from_variables_alone() -> None:
    """Its own settings and its vendor's, whose names become camelCase, however deep."""
    prefix = "RELAY_CONNECTIONS__MAIN__"
    values = {"VENDOR": "trifacta", "BASE_URL": "https://x", "SIGNATURE_HEADER": "X-Y", "OAUTH__CLIENT_ID": "c"}
    connection = load(None, {prefix + name: value for name, value in values.items()}).connections["main"]

    assert {"signatureHeader": "X-Y", "oauth": {"clientId": "c"}} == connection.options


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("RELAY_EGRESS__ALLOW", '["10.0.0.0/8", "a.b"]', ("10.0.0.0/8", "a.b")),
        ("RELAY_EGRESS__ALLOW", "[10.0.0.0/8]", ("10.0.0.0/8",)),
        ("RELAY_EGRESS", '{"allow": ["a"]}', ("a",)),
    ],
)
def test_lists_and_mappings_in_variables_are_json(name: str, text: str, expected: tuple[str, ...]) -> None:
    """Or YAML in one line."""
    assert expected == load(None, {name: text}).egress.allow


def test_null_in_a_variable_is_nothing(tmp_path: Path) -> None:
    """What the file sets can be unset."""
    assert None is of(tmp_path, WHOLE, RELAY_AMQP="null").amqp


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        ("", {}, WEBHOOK_SCHEDULE),
        ("deliveries: {schedule: [0, 5, 0.5]}", {}, (0, 5, 0.5)),
        ("deliveries: {schedule: [0, 5]}", {"RELAY_DELIVERIES__SCHEDULE": "[1, 2.5]"}, (1, 2.5)),
        ("", {"RELAY_DELIVERIES": '{"schedule": [7]}'}, (7,)),
    ],
)
def test_all_targets_schedule_is_a_setting(
    tmp_path: Path, text: str, environ: dict[str, str], expected: tuple[float, ...]
) -> None:
    """In the file or in a variable; without it relay has its own."""
    assert expected == of(tmp_path, text, **environ).deliveries.schedule


def test_a_part_goes_over_a_whole() -> None:
    """Variables for a section and for one of its settings complete each other."""
    settings = load(None, {"RELAY_HTTP": '{"port": 1, "host": "::1"}', "RELAY_HTTP__PORT": "2"})

    assert (2, "::1") == (settings.http.port, settings.http.host)


def test_other_variables_are_nobodys_business() -> None:
    """Those of the command line and of tests are no settings, nor are those without the prefix."""
    others = (
        "RELAY_SERVER",
        "RELAY_TOKEN",
        "RELAY_FAILPOINTS",
        "RELAY_TEST_AMQP_URL",
        "HTTP__PORT",
        "relay_http__port",
    )

    assert load(None, {}) == load(None, dict.fromkeys(others, "x"))


def test_what_kubernetes_sets_beside_a_service_is_no_setting() -> None:
    """A service may be called relay: every container then has variables that begin like relay's own."""
    links = {
        "RELAY_SERVICE_HOST": "10.0.0.1",
        "RELAY_SERVICE_PORT": "8080",
        "RELAY_SERVICE_PORT_HTTP": "8080",
        "RELAY_PORT": "tcp://10.0.0.1:8080",
        "RELAY_PORT_8080_TCP": "tcp://10.0.0.1:8080",
        "RELAY_PORT_8080_TCP_PROTO": "tcp",
        "RELAY_PORT_8080_TCP_ADDR": "10.0.0.1",
    }

    assert load(None, {}) == load(None, links)


# --- secrets from elsewhere ---


def test_values_may_stand_in_files_and_variables(tmp_path: Path) -> None:
    """`{file: …}` and `{env: …}` are replaced by what stands there, wherever they are; one line break goes."""
    (tmp_path / "token").write_text("from the file\n")
    text = f"""
secretKey: {{env: MY_KEY}}
amqp: {{url: [{{env: BROKER}}]}}
connections: {{tri: {{vendor: trifacta, baseUrl: "https://x", token: {{file: {tmp_path}/token}}}}}}
"""
    settings = of(tmp_path, text, MY_KEY="k", BROKER="amqp://h")

    assert settings.secret_key is not None
    assert settings.amqp is not None
    assert ("k", "amqp://h", "from the file") == (
        settings.secret_key.get_secret_value(),
        settings.amqp.url[0].get_secret_value(),
        settings.connections["tri"].options["token"],
    )


def test_a_variable_may_name_a_file(tmp_path: Path) -> None:
    """The same words work there."""
    (tmp_path / "key").write_text("k")
    settings = load(None, {"RELAY_SECRET_KEY": f'{{"file": "{tmp_path}/key"}}'})

    assert settings.secret_key is not None
    assert "k" == settings.secret_key.get_secret_value()


def test_a_mapping_that_only_looks_like_one_is_one() -> None:
    """A connection may be called `file`."""
    assert ["file"] == list(
        load(None, {"RELAY_CONNECTIONS": '{"file": {"vendor": "v", "baseUrl": "https://x"}}'}).connections
    )


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("{file: /nowhere/at/all}", "secretKey: cannot read the file /nowhere/at/all: No such file or directory"),
        ("{file: /}", "secretKey: cannot read the file /: Is a directory"),
        ("{env: NOT_SET}", "secretKey: the variable NOT_SET is not set"),
        ("{file: BINARY}", "secretKey: cannot read the file BINARY: it, or its name, is not text"),
        ('{file: "A\\0"}', "secretKey: cannot read the file A\0: it, or its name, is not text"),
        ("{file: 7}", "secretKey: Input should be a valid string"),
        ("{file: a, env: b}", "secretKey: Input should be a valid string"),
    ],
)
def test_a_secret_that_cannot_be_had_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, words: str
) -> None:
    """Where it stands, which setting, and what ails its source."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "BINARY").write_bytes(b"\xff\xfe\x00")

    assert f"relay.yaml line 1: {words}" == complaint(tmp_path, f"secretKey: {value}")


# --- what is wrong ---


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("htpp: {port: 1}", "relay.yaml line 1: htpp: unknown field; did you mean http?"),
        ("\nhttp:\n  prot: 1", "relay.yaml line 3: http.prot: unknown field; did you mean port?"),
        ("http:\n  port: 99999", "relay.yaml line 2: http.port: Input should be less than or equal to 65535"),
        ("http: {port: x}", "relay.yaml line 1: http.port: Input should be a valid integer"),
        ("http: {port: yes}", "relay.yaml line 1: http.port: must be a number"),
        (
            "connections: {tri: {vendor: x, baseUrl: 'https://h', maxInFlight: on}}",
            "relay.yaml line 1: connections.tri.maxInFlight: must be a number",
        ),
        (
            "connections: {tri: {vendor: x, baseUrl: 'https://h', webhookSecret: ''}}",
            "relay.yaml line 1: connections.tri.webhookSecret[0]: is empty: anybody could sign with it",
        ),
        (
            "connections: {tri: {vendor: x, baseUrl: 'https://h', webhookSecret: [a, ' ']}}",
            "relay.yaml line 1: connections.tri.webhookSecret[1]: is empty: anybody could sign with it",
        ),
        (
            "subscriptions: {ops: {url: 'https://h', signature: body, secret: ''}}",
            "relay.yaml line 1: subscriptions.ops.secret: is empty: anybody could sign with it",
        ),
        ("http: {publicUrl: relay.example.com}", "relay.yaml line 1: http.publicUrl: must be an absolute URL"),
        ("http: {publicUrl: 'https://u:p@h'}", "relay.yaml line 1: http.publicUrl: must be an absolute URL"),
        ("http: {publicUrl: 'https://h/?q'}", "relay.yaml line 1: http.publicUrl: must be an absolute URL"),
        ("database: {url: 'mysql://x'}", "relay.yaml line 1: database.url: "),
        ("amqp: {}", "relay.yaml line 1: amqp.url: Field required"),
        ("amqp: {url: []}", "relay.yaml line 1: amqp.url: "),
        (
            "amqp: {url: 'amqp://h', delcare: true}",
            "relay.yaml line 1: amqp.delcare: unknown field; did you mean declare?",
        ),
        ("amqp: {url: 'http://h'}", "relay.yaml line 1: amqp.url: must be such as amqp://"),
        (
            "amqp: {url: 'amqp://h', eventsQueue: relay.requests}",
            "relay.yaml line 1: amqp: requestsQueue, eventsQueue and deadLettersQueue must be three",
        ),
        (
            "amqp: {url: 'amqp://h', requestsExchange: all, eventsExchange: all}",
            "relay.yaml line 1: amqp: requestsExchange, eventsExchange and deadLettersExchange must be three",
        ),
        (
            "amqp: {url: 'amqp://h', requestsExchange: relay.dead-letters}",
            "relay.yaml line 1: amqp: requestsExchange, eventsExchange and deadLettersExchange must be three",
        ),
        ("log: {level: loud}", "relay.yaml line 1: log.level: Input should be 'debug', 'info', 'warning' or 'error'"),
        ("connections: {A b: {}}", "relay.yaml line 1: connections.A b: String should match pattern"),
        ("connections:\n  tri:\n    vendor: x", "relay.yaml line 2: connections.tri.baseUrl: Field required"),
        ("connections: {tri: {vendor: x, baseUrl: 'https://u:p@h'}}", "relay.yaml line 1: connections.tri.baseUrl: "),
        ("tokens:\n  - name: a\n  - 7", "relay.yaml line 2: tokens[0].sha256: Field required"),
        ("tokens: [{name: a, sha256: x, scopes: [fly]}]", "relay.yaml line 1: tokens[0].sha256: String should match"),
        ("retention: 1", "relay.yaml line 1: retention: Input should be greater than or equal to 60"),
        (
            "amqp: {url: 'amqp://b', publishTimeout: 61}",
            "relay.yaml line 1: amqp.publishTimeout: Input should be less than or equal to 60",
        ),
        ("deliveries: {schedule: []}", "relay.yaml line 1: deliveries.schedule: Tuple should have at least 1 item"),
        ("deliveries: {schedule: 5}", "relay.yaml line 1: deliveries.schedule: Input should be a list"),
        (
            "deliveries:\n  schedule:\n  - 0\n  - -5",
            "relay.yaml line 4: deliveries.schedule[1]: Input should be greater than or equal to 0",
        ),
        (
            "deliveries: {schedule: [2678401]}",
            "relay.yaml line 1: deliveries.schedule[0]: Input should be less than or equal to 2678400",
        ),
        (
            f"deliveries: {{schedule: {[1] * 101}}}",
            "relay.yaml line 1: deliveries.schedule: Tuple should have at most 100 items",
        ),
        (
            "deliveries: {shedule: [1]}",
            "relay.yaml line 1: deliveries.shedule: unknown field; did you mean schedule?",
        ),
        ("[1, 2]", "relay.yaml: must be a mapping of settings"),
        ("just text", "relay.yaml: must be a mapping of settings"),
    ],
)
def test_a_wrong_setting_is_told_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    """File and line, the setting's path, what is wrong, and the nearest right name."""
    assert complaint(tmp_path, text).startswith(told)


def test_one_exchange_will_do_where_relay_does_not_bind(tmp_path: Path) -> None:
    """Whoever makes the bindings can keep apart what is sent to it; and without a queue of events there are two."""
    text = "amqp: {url: 'amqp://h', declare: false, requestsExchange: all, eventsExchange: all, eventsQueue: null}"

    settings = of(tmp_path, text)

    assert settings.amqp is not None
    assert "all" == settings.amqp.events_exchange


def test_all_that_is_wrong_is_told(tmp_path: Path) -> None:
    """A line for each, of the file and of the environment."""
    told = complaint(tmp_path, "http: {prot: 1}\nlgo: {}", RELAY_LOG__LEVEL="loud", RELAY_HTTP__HOTS="x").splitlines()

    assert {
        "relay.yaml line 1: http.prot: unknown field; did you mean port?",
        "relay.yaml line 2: lgo: unknown field; did you mean log?",
        "RELAY_HTTP__HOTS: http.hots: unknown field; did you mean host?",
        "RELAY_LOG__LEVEL: log.level: Input should be 'debug', 'info', 'warning' or 'error'",
    } == set(told)


def test_of_very_many_wrong_settings_the_first_are_told(tmp_path: Path) -> None:
    """A file of something else does not flood the terminal."""
    assert 50 == len(complaint(tmp_path, "\n".join(f"key{number}: 1" for number in range(200))).splitlines())


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("RELAY_HTPP__PORT", "1", "RELAY_HTPP__PORT: htpp: unknown field; did you mean http?"),
        ("RELAY_HTTP__PROT", "1", "RELAY_HTTP__PROT: http.prot: unknown field; did you mean port?"),
        ("RELAY_PORT", "1", "RELAY_PORT: port: unknown field"),
        ("RELAY_HTTP", "text", "RELAY_HTTP: http: Input should be an object"),
        ("RELAY_EGRESS__ALLOW", "[a", "RELAY_EGRESS__ALLOW: begins like JSON and is none: line 1, column 3: "),
        ("RELAY_TOKENS__NAME", "x", "RELAY_TOKENS__NAME: tokens: Input should be a list"),
        ("RELAY_HTTP__PORT__X", "1", "RELAY_HTTP__PORT__X: http.port: Input should be a valid integer"),
        ("RELAY_CONNECTIONS", "x", "RELAY_CONNECTIONS: connections: Input should be an object"),
    ],
)
def test_a_wrong_variable_is_told_by_its_name(name: str, value: str, told: str) -> None:
    """The variable, the setting that it would be, and what is wrong."""
    with pytest.raises(SettingsError) as refused:
        load(None, {name: value})

    assert str(refused.value).startswith(told)


def test_variables_that_contradict_each_other_are_told() -> None:
    """A part of what another sets as a whole."""
    with pytest.raises(SettingsError, match="RELAY_HTTP__PORT: another variable sets http as a whole"):
        load(None, {"RELAY_HTTP": "null", "RELAY_HTTP__PORT": "1"})


LAUGHS = "a: &a [x]\n" + "\n".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]" for before, name in pairwise("abcdefghijk")
)
"""Ten lines that say ten thousand million things."""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("http: {port: 1}\nlog: {}\nhttp: {port: 2}", "relay.yaml line 3: http stands in line 1 already"),
        ("connections:\n  a: {}\n  b: {}\n  a: {}", "relay.yaml line 4: connections.a stands in line 2 already"),
        ("http:\n  port: 1\n port: 2", "relay.yaml: is not YAML: line 3, column 2: "),
        ("http: {port: 1", "relay.yaml: is not YAML: line 1, column 15: "),
        ("a: b: c", "relay.yaml: is not YAML: line 1, column 5: mapping values are not allowed here"),
        ("\tx: 1", "relay.yaml: is not YAML: line 1, column 1: "),
        ("a: *nowhere", "relay.yaml: is not YAML: line 1, column 4: found undefined alias '…'"),
        ("a: !own x", "relay.yaml: line 1, column 4: could not determine a constructor for the tag '…'"),
        ("retention: 2026-99-99", "relay.yaml: a date or number in it is none; quote it"),
        ("a: &a {b: *a}", "relay.yaml: it holds itself, or is nested too deeply"),
        (LAUGHS, "relay.yaml: it says more than 100000 things, with what its aliases stand for"),
        ("[" * 5000, "relay.yaml: is not YAML: it holds itself, or is nested too deeply"),
        ("x: 1\n---\ny: 2", "relay.yaml: is not YAML: line 2, column 1: but found another document"),
        ("8080: x", "relay.yaml line 1: a key must be text; write it in quotes"),
        ("connections: {on: {}}", "relay.yaml line 1: a key must be text; write it in quotes"),
        ("? [a]\n: x", "relay.yaml line 1: a key must be text; write it in quotes"),
        (b"a: \xff", "relay.yaml: is not YAML: it is not UTF-8"),
        (b"a: \x00", "relay.yaml: is not YAML: position 3: special characters are not allowed"),
    ],
)  # fmt: skip
def test_what_is_no_settings_file_is_told_by_line(tmp_path: Path, text: str | bytes, told: str) -> None:
    """Syntax, keys that come twice, keys that are no text, and whatever else YAML has."""
    assert complaint(tmp_path, text).startswith(told)


@pytest.mark.parametrize(("name", "why"), [("nowhere.yaml", "No such file"), (".", "Is a directory")])
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, name: str, why: str) -> None:
    """Which, and why."""
    with pytest.raises(SettingsError, match=f"{tmp_path}.*: cannot be read: {why}"):
        load(tmp_path / name, {})


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    """It is as good as none."""
    assert load(None, {}) == of(tmp_path, "# nothing yet\n")


def test_anchors_and_merges_work(tmp_path: Path) -> None:
    """What YAML gives to write connections that are alike."""
    text = """
connections:
  one: &one {vendor: trifacta, baseUrl: "https://x", token: t}
  two: {<<: *one, maxConcurrency: 2}
"""
    settings = of(tmp_path, text)

    assert ("https://x", 2, None) == (
        settings.connections["two"].base_url,
        settings.connections["two"].max_concurrency,
        settings.connections["one"].max_concurrency,
    )


def test_a_place_that_nobody_named_is_the_settings() -> None:
    """What is wrong with no value in particular is wrong with all of them."""
    assert "settings" == Sources({}, {}).place(("http",))


@pytest.mark.parametrize(
    ("url", "path"),
    [("sqlite:///a.db", "a.db"), ("sqlite:////a/b.db", "/a/b.db"), ("postgresql://u:p@h/db", None)],
)
def test_a_database_is_a_file_or_none(url: str, path: str | None) -> None:
    """Three slashes before a relative path, four before an absolute one."""
    assert path == load(None, {"RELAY_DATABASE__URL": url}).database.path


# --- secrets ---

CANARY = "canary-4711"


def secretive(tmp_path: Path) -> Settings:
    """Settings with a secret wherever one may stand."""
    text = f"""
secretKey: {CANARY}
amqp: {{url: "amqp://relay:{CANARY}@h/"}}
connections:
  tri:
    vendor: trifacta
    baseUrl: https://x
    token: {CANARY}
    oauth: {{refreshToken: {CANARY}}}
    proxy: http://u:{CANARY}@proxy
"""
    return of(tmp_path, text)


def test_no_secret_in_a_repr(tmp_path: Path) -> None:
    """However the settings are printed."""
    settings = secretive(tmp_path)

    shown = f"{settings!r} {settings} {settings.connections!r} {settings.connections['tri']} {settings.amqp}"
    assert CANARY not in shown
    assert "trifacta" in shown


@pytest.mark.parametrize(
    "text",
    [
        f"secretKey: [{CANARY}]",
        f"secretKey: {{a: {CANARY}}}",
        f'secretKey: "{CANARY}',
        f"secretKey: '{CANARY}\nx: 1",
        f"secretKey: *{CANARY}",
        f"secretKey: !{CANARY}",
        f"secretKey: &{CANARY} %",
        f"secretKey: {CANARY}: x",
        f"secretKey: @{CANARY}",
        f"amqp: {{url: 'amqp://u:{CANARY}/x@h'}}",
        f"amqp: {{url: '{CANARY}'}}",
        f"amqp: {{url: 'amqp://u:p@[{CANARY}'}}",
        f"connections: {{tri: {{vendor: x, baseUrl: 'https://u:{CANARY}@h'}}}}",
        f"connections: {{tri: {{vendor: x, baseUrl: y, proxy: [{CANARY}]}}}}",
        f"tokens: [{{name: a, sha256: {CANARY}, scopes: [read]}}]",
        f"database: {{url: 'other://u:{CANARY}@h/db'}}",
    ],
)
def test_no_secret_in_an_error(tmp_path: Path, text: str) -> None:
    """However wrong the setting is that holds it: in the message, and in what caused it."""
    path = written(tmp_path, text)
    with pytest.raises(SettingsError) as refused:
        load(path, {})

    assert CANARY not in f"{refused.value} {refused.value.__cause__}"
    assert refused.value.__cause__ is None or refused.value.__suppress_context__


@pytest.mark.parametrize("value", [f"[{CANARY}", f"{{{CANARY}", f'["{CANARY}]', f"{{x: *{CANARY}}}"])
def test_no_secret_of_a_variable_in_an_error(value: str) -> None:
    """A password may begin like a list: the error does not repeat it."""
    with pytest.raises(SettingsError) as refused:
        load(None, {"RELAY_SECRET_KEY": value})

    assert CANARY not in f"{refused.value} {refused.value.__cause__}"


@pytest.mark.parametrize("file", ["deploy/relay.yaml", "deploy/examples/prefect/relay.yaml", None])
def test_the_schema_takes_the_settings_that_relay_takes(file: str | None) -> None:
    """Those that come with it, with declarations in files of their own and values from elsewhere, and the whole."""
    text = WHOLE if file is None else (Path(__file__).parents[1] / file).read_text()

    assert [] == [*Draft202012Validator(Settings.model_json_schema()).iter_errors(yaml.safe_load(text))]


def test_the_schema_takes_what_files_say() -> None:
    """One broker or a list of them; a secret as it is, or where it stands; the database's default can be read."""
    schema = Settings.model_json_schema()
    one, several = schema["$defs"]["Amqp"]["properties"]["url"]["anyOf"]
    secret, _ = schema["properties"]["secretKey"]["anyOf"]

    assert [one, secret] == [several["items"], one]
    assert ["string", "object", "object"] == [form["type"] for form in secret["anyOf"]]
    assert [["file"], ["env"]] == [form["required"] for form in secret["anyOf"] if "required" in form]
    assert "sqlite:///relay.db" == schema["$defs"]["Database"]["properties"]["url"]["default"]
    assert list(WEBHOOK_SCHEDULE) == schema["$defs"]["Deliveries"]["properties"]["schedule"]["default"]
