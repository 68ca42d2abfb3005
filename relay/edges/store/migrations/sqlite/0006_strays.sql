-- Callbacks to a connection's fixed URL that name a vendor job of which relay does not know (yet). `request` is sealed.
CREATE TABLE stray (
    key           INTEGER PRIMARY KEY,
    id            TEXT NOT NULL UNIQUE,
    connection    TEXT NOT NULL,
    vendor_job_id TEXT NOT NULL,
    digest        TEXT NOT NULL,
    request       TEXT NOT NULL,
    came_at       REAL NOT NULL,
    UNIQUE (connection, digest)
) STRICT;
CREATE INDEX stray_came ON stray (came_at);
