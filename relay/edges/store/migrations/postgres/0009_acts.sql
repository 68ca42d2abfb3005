-- What operators did: when, by whom (a token's name), what, to what. `connections` are those that it concerned, as a JSON
-- array, NULL for any; `detail` is JSON.
CREATE TABLE act (
    key         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id          text COLLATE "C" NOT NULL UNIQUE,
    at          double precision NOT NULL,
    done_by     text COLLATE "C" NOT NULL,
    what        text COLLATE "C" NOT NULL,
    target      text COLLATE "C",
    connections jsonb,
    detail      text NOT NULL
);
CREATE INDEX act_at ON act (at);
