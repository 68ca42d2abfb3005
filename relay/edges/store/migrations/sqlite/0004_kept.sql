-- What a connection's credentials have to keep, such as a token that changes with each use. `sealed` is sealed: the
-- values as JSON. Whoever renews them borrows the row: it is `holder`'s until `held_until`.
CREATE TABLE kept (
    connection TEXT PRIMARY KEY,
    sealed     TEXT,
    holder     TEXT,
    held_until REAL
) STRICT, WITHOUT ROWID;
