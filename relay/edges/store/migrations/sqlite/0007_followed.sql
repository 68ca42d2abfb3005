-- Events are followed by their keys, so that no key is ever given twice: not even after the newest event has gone.
CREATE TABLE event_kept (
    key        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL UNIQUE,
    job        INTEGER UNIQUE,
    type       TEXT NOT NULL,
    connection TEXT,
    operation  TEXT,
    body       TEXT NOT NULL,
    at         REAL NOT NULL
) STRICT;
INSERT INTO event_kept SELECT key, id, job, type, connection, operation, body, at FROM event ORDER BY key;
DROP TABLE event;
ALTER TABLE event_kept RENAME TO event;
CREATE INDEX event_refused ON event (at) WHERE job IS NULL;

-- One row at most: the greatest key of an event that retention has dropped.
CREATE TABLE event_dropped (key INTEGER PRIMARY KEY) STRICT;
