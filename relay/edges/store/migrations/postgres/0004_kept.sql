-- What a connection's credentials have to keep, such as a token that changes with each use. `sealed` is sealed: the
-- values as JSON. Whoever renews them borrows the row: it is `holder`'s until `held_until`.
CREATE TABLE kept (
    connection text COLLATE "C" PRIMARY KEY,
    sealed     text,
    holder     text COLLATE "C",
    held_until double precision
) WITH (fillfactor = 50);
