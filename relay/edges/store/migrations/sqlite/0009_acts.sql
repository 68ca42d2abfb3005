-- What operators did: when, by whom (a token's name), what, to what. `connections` are those that it concerned, as a JSON
-- array, NULL for any; `detail` is JSON.
CREATE TABLE act (
    key         INTEGER PRIMARY KEY,
    id          TEXT NOT NULL UNIQUE,
    at          REAL NOT NULL,
    done_by     TEXT NOT NULL,
    what        TEXT NOT NULL,
    target      TEXT,
    connections TEXT,
    detail      TEXT NOT NULL
) STRICT;
CREATE INDEX act_at ON act (at);
