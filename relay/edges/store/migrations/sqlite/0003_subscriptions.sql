-- Standing targets. `sealed` is sealed: the definition with its headers, and the signing secrets. It and `name` are NULL
-- for a subscription of the settings, of which only is kept how it fares. `failing` since `failing_since`: its last
-- `failures` attempts failed, long enough that it was told. `last_act` is what an operator did to it last, and who.
CREATE TABLE subscription (
    key           INTEGER PRIMARY KEY,
    id            TEXT    NOT NULL UNIQUE,
    name          TEXT    UNIQUE,
    version       INTEGER NOT NULL DEFAULT 1,
    sealed        TEXT,
    state         TEXT    NOT NULL DEFAULT 'active',
    reason        TEXT,
    failures      INTEGER NOT NULL DEFAULT 0,
    failing       INTEGER NOT NULL DEFAULT 0,
    failing_since REAL,
    last_error    TEXT,
    last_act      TEXT,
    created_at    REAL    NOT NULL,
    updated_at    REAL    NOT NULL
) STRICT;

-- One row: a number that changes whenever a subscription does, so that relays know when to read them again.
CREATE TABLE subscription_edition (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    number INTEGER NOT NULL
) STRICT;

CREATE INDEX delivery_subscription ON delivery (lane, created_at) WHERE kind = 'subscription';
