-- A job's moving part, kept narrow: the conveyor touches it at every step.
-- `due` is when it is to be acted on, or when its holder's lease lapses; NULL once it has ended (`ended`).
CREATE TABLE job (
    key            INTEGER PRIMARY KEY,
    id             TEXT    NOT NULL UNIQUE,
    request_id     TEXT    NOT NULL UNIQUE,
    version        INTEGER NOT NULL,
    state          TEXT    NOT NULL,
    lane           TEXT    NOT NULL,
    due            REAL,
    leased         INTEGER NOT NULL,
    lapses         INTEGER NOT NULL DEFAULT 0,
    deadline       REAL    NOT NULL,
    ended          REAL,
    connection     TEXT    NOT NULL,
    vendor         TEXT    NOT NULL,
    operation      TEXT    NOT NULL,
    vendor_job_id  TEXT,
    correlation_id TEXT,
    error_code     TEXT,
    accepted_at    REAL    NOT NULL
) STRICT;
CREATE INDEX job_due ON job (lane, due) WHERE due IS NOT NULL;
CREATE INDEX job_overdue ON job (lane, deadline) WHERE due IS NOT NULL;
CREATE INDEX job_accepted ON job (accepted_at);
CREATE INDEX job_state ON job (state, connection, accepted_at);
CREATE INDEX job_vendor_job_id ON job (vendor_job_id) WHERE vendor_job_id IS NOT NULL;
CREATE INDEX job_correlation_id ON job (correlation_id) WHERE correlation_id IS NOT NULL;
CREATE INDEX job_ended ON job (ended) WHERE ended IS NOT NULL;

-- What was asked, written once. `spec` is sealed; `metadata` is a JSON object, in the clear to be searched.
CREATE TABLE job_spec (
    job         INTEGER PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    spec        TEXT NOT NULL,
    metadata    TEXT NOT NULL
) STRICT;

-- How far it has come, as JSON: all that nothing is searched by.
CREATE TABLE job_picture (
    job     INTEGER PRIMARY KEY,
    picture TEXT NOT NULL
) STRICT;

-- What came of it, apart because it may be large.
CREATE TABLE job_result (
    job    INTEGER PRIMARY KEY,
    result TEXT NOT NULL
) STRICT;

-- The vendor's further ids of a job that has several.
CREATE TABLE vendor_job (
    vendor_job_id TEXT    NOT NULL,
    job           INTEGER NOT NULL,
    PRIMARY KEY (vendor_job_id, job)
) STRICT, WITHOUT ROWID;
CREATE INDEX vendor_job_job ON vendor_job (job);

-- Queues that want the job's event: `reply` is JSON, [queue, correlation id].
CREATE TABLE reply (
    job   INTEGER NOT NULL,
    reply TEXT    NOT NULL,
    PRIMARY KEY (job, reply)
) STRICT, WITHOUT ROWID;

CREATE TABLE history (
    key    INTEGER PRIMARY KEY,
    job    INTEGER NOT NULL,
    at     REAL    NOT NULL,
    what   TEXT    NOT NULL,
    state  TEXT    NOT NULL,
    detail TEXT    NOT NULL
) STRICT;
CREATE INDEX history_job ON history (job);

-- One terminal event a job, whatever happens: `job` is unique. It is NULL for a refused request's.
CREATE TABLE event (
    key        INTEGER PRIMARY KEY,
    id         TEXT NOT NULL UNIQUE,
    job        INTEGER UNIQUE,
    type       TEXT NOT NULL,
    connection TEXT,
    operation  TEXT,
    body       TEXT NOT NULL,
    at         REAL NOT NULL
) STRICT;
CREATE INDEX event_refused ON event (at) WHERE job IS NULL;

-- An event's way to one target. `target` is sealed, or empty. `since` is when it was made or redelivered,
-- `expires` when its patience ends.
CREATE TABLE delivery (
    key         INTEGER PRIMARY KEY,
    id          TEXT    NOT NULL UNIQUE,
    event       INTEGER NOT NULL,
    version     INTEGER NOT NULL DEFAULT 1,
    kind        TEXT    NOT NULL,
    lane        TEXT    NOT NULL,
    host        TEXT    NOT NULL,
    name        TEXT,
    target      TEXT    NOT NULL,
    state       TEXT    NOT NULL,
    reason      TEXT,
    tries       INTEGER NOT NULL DEFAULT 0,
    attempts    INTEGER NOT NULL DEFAULT 0,
    since       REAL    NOT NULL,
    patience    REAL,
    expires     REAL,
    created_at  REAL    NOT NULL,
    due         REAL,
    leased      INTEGER NOT NULL,
    lapses      INTEGER NOT NULL DEFAULT 0,
    finished_at REAL
) STRICT;
CREATE INDEX delivery_due ON delivery (lane, due) WHERE due IS NOT NULL;
CREATE INDEX delivery_event ON delivery (event);
CREATE INDEX delivery_state ON delivery (state, created_at);
CREATE INDEX delivery_created ON delivery (created_at);
CREATE INDEX delivery_expires ON delivery (lane, expires) WHERE due IS NOT NULL AND expires IS NOT NULL;

CREATE TABLE attempt (
    key      INTEGER PRIMARY KEY,
    delivery INTEGER NOT NULL,
    number   INTEGER NOT NULL,
    at       REAL    NOT NULL,
    duration REAL    NOT NULL,
    outcome  TEXT    NOT NULL,
    status   INTEGER,
    error    TEXT,
    excerpt  TEXT
) STRICT;
CREATE INDEX attempt_delivery ON attempt (delivery);

-- A vendor's callback. `request` is sealed; once handled only the digest stays, so that a repeat is known.
CREATE TABLE callback (
    key       INTEGER PRIMARY KEY,
    id        TEXT    NOT NULL UNIQUE,
    job       INTEGER NOT NULL,
    digest    TEXT    NOT NULL,
    lane      TEXT    NOT NULL,
    version   INTEGER NOT NULL DEFAULT 1,
    request   TEXT,
    due       REAL,
    leased    INTEGER NOT NULL,
    lapses    INTEGER NOT NULL DEFAULT 0,
    postponed INTEGER NOT NULL DEFAULT 0,
    UNIQUE (job, digest)
) STRICT;
CREATE INDEX callback_due ON callback (lane, due) WHERE due IS NOT NULL;

-- A lane that does not fare well; of a healthy one there is no row.
CREATE TABLE lane (
    stage        TEXT    NOT NULL,
    lane         TEXT    NOT NULL,
    failures     INTEGER NOT NULL,
    closed_until REAL,
    slots        INTEGER,
    PRIMARY KEY (stage, lane)
) STRICT, WITHOUT ROWID;
