-- Standing targets. `sealed` is sealed: the definition with its headers, and the signing secrets. It and `name` are NULL
-- for a subscription of the settings, of which only is kept how it fares. `failing` since `failing_since`: its last
-- `failures` attempts failed, long enough that it was told. `last_act` is what an operator did to it last, and who.
CREATE TABLE subscription (
    key           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id            text COLLATE "C"  NOT NULL UNIQUE,
    name          text COLLATE "C"  UNIQUE,
    version       integer           NOT NULL DEFAULT 1,
    sealed        text,
    state         text COLLATE "C"  NOT NULL DEFAULT 'active',
    reason        text,
    failures      integer           NOT NULL DEFAULT 0,
    failing       boolean           NOT NULL DEFAULT false,
    failing_since double precision,
    last_error    text,
    last_act      text,
    created_at    double precision  NOT NULL,
    updated_at    double precision  NOT NULL
) WITH (fillfactor = 50);
ALTER TABLE subscription ALTER COLUMN sealed SET STORAGE EXTERNAL;

-- One row: a number that changes whenever a subscription does, so that relays know when to read them again.
CREATE TABLE subscription_edition (
    one    integer PRIMARY KEY CHECK (one = 1),
    number bigint NOT NULL
) WITH (fillfactor = 50);

CREATE INDEX delivery_subscription ON delivery (lane, created_at) WHERE kind = 'subscription';
