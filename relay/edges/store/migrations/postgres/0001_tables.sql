-- Text that is compared is compared by its bytes (COLLATE "C"): no index then hangs on the system's idea of an alphabet.
-- The tables that every step touches are vacuumed early and leave room on their pages.

-- A job's moving part, kept narrow and with few indexes: every claim and every step writes a new version of it.
-- `due` is when it is to be acted on, or when its holder's lease lapses; NULL once it has ended.
CREATE TABLE job (
    key      bigint PRIMARY KEY,
    version  integer          NOT NULL,
    lane     text COLLATE "C" NOT NULL,
    due      double precision,
    leased   boolean          NOT NULL,
    lapses   integer          NOT NULL DEFAULT 0,
    deadline double precision NOT NULL
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
        autovacuum_analyze_scale_factor = 0.05);
CREATE INDEX job_due ON job (lane, due) WHERE due IS NOT NULL;
CREATE INDEX job_overdue ON job (lane, deadline) WHERE due IS NOT NULL;

-- What a job is known and found by: written anew only where that changes, which most steps do not.
CREATE TABLE job_card (
    key            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id             text COLLATE "C" NOT NULL UNIQUE,
    request_id     text COLLATE "C" NOT NULL UNIQUE,
    state          text COLLATE "C" NOT NULL,
    ended          double precision,
    connection     text COLLATE "C" NOT NULL,
    vendor         text COLLATE "C" NOT NULL,
    operation      text COLLATE "C" NOT NULL,
    vendor_job_id  text COLLATE "C",
    correlation_id text COLLATE "C",
    error_code     text COLLATE "C",
    accepted_at    double precision NOT NULL
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX job_accepted ON job_card (accepted_at);
CREATE INDEX job_state ON job_card (state, connection, accepted_at);
CREATE INDEX job_vendor_job_id ON job_card (vendor_job_id) WHERE vendor_job_id IS NOT NULL;
CREATE INDEX job_correlation_id ON job_card (correlation_id) WHERE correlation_id IS NOT NULL;
CREATE INDEX job_ended ON job_card (ended) WHERE ended IS NOT NULL;

-- What was asked, written once. `spec` is sealed; `metadata` is a JSON object, in the clear to be searched.
CREATE TABLE job_spec (
    job         bigint PRIMARY KEY,
    fingerprint text NOT NULL,
    spec        text NOT NULL,
    metadata    text NOT NULL
);
-- What is sealed cannot be compressed: no time is spent on trying.
ALTER TABLE job_spec ALTER COLUMN spec SET STORAGE EXTERNAL;

-- How far it has come, as JSON: all that nothing is searched by. No index knows what changes here (HOT).
CREATE TABLE job_picture (
    job     bigint PRIMARY KEY,
    picture text NOT NULL
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);

-- What came of it, apart because it may be large.
CREATE TABLE job_result (
    job    bigint PRIMARY KEY,
    result text NOT NULL
);

-- The vendor's further ids of a job that has several.
CREATE TABLE vendor_job (
    vendor_job_id text COLLATE "C" NOT NULL,
    job           bigint NOT NULL,
    PRIMARY KEY (vendor_job_id, job)
);
CREATE INDEX vendor_job_job ON vendor_job (job);

-- Queues that want the job's event: `reply` is JSON, [queue, correlation id].
CREATE TABLE reply (
    job   bigint NOT NULL,
    reply text COLLATE "C" NOT NULL,
    PRIMARY KEY (job, reply)
);

CREATE TABLE history (
    key    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job    bigint NOT NULL,
    at     double precision NOT NULL,
    what   text NOT NULL,
    state  text NOT NULL,
    detail text NOT NULL
);
CREATE INDEX history_job ON history (job);

-- One terminal event a job, whatever happens: `job` is unique. It is NULL for a refused request's.
CREATE TABLE event (
    key        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id         text COLLATE "C" NOT NULL UNIQUE,
    job        bigint UNIQUE,
    type       text NOT NULL,
    connection text COLLATE "C",
    operation  text,
    body       text NOT NULL,
    at         double precision NOT NULL
);
CREATE INDEX event_refused ON event (at) WHERE job IS NULL;

-- An event's way to one target. `target` is sealed, or empty. `since` is when it was made or redelivered,
-- `expires` when its patience ends.
CREATE TABLE delivery (
    key         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id          text COLLATE "C" NOT NULL UNIQUE,
    event       bigint           NOT NULL,
    version     integer          NOT NULL DEFAULT 1,
    kind        text             NOT NULL,
    lane        text COLLATE "C" NOT NULL,
    host        text             NOT NULL,
    name        text,
    target      text             NOT NULL,
    state       text COLLATE "C" NOT NULL,
    reason      text,
    tries       integer          NOT NULL DEFAULT 0,
    attempts    integer          NOT NULL DEFAULT 0,
    since       double precision NOT NULL,
    patience    double precision,
    expires     double precision,
    created_at  double precision NOT NULL,
    due         double precision,
    leased      boolean          NOT NULL,
    lapses      integer          NOT NULL DEFAULT 0,
    finished_at double precision
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
        autovacuum_analyze_scale_factor = 0.05);
ALTER TABLE delivery ALTER COLUMN target SET STORAGE EXTERNAL;
CREATE INDEX delivery_due ON delivery (lane, due) WHERE due IS NOT NULL;
CREATE INDEX delivery_event ON delivery (event);
CREATE INDEX delivery_state ON delivery (state, created_at);
CREATE INDEX delivery_created ON delivery (created_at);
CREATE INDEX delivery_expires ON delivery (lane, expires) WHERE due IS NOT NULL AND expires IS NOT NULL;

CREATE TABLE attempt (
    key      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    delivery bigint NOT NULL,
    number   integer NOT NULL,
    at       double precision NOT NULL,
    duration double precision NOT NULL,
    outcome  text NOT NULL,
    status   integer,
    error    text,
    excerpt  text
);
CREATE INDEX attempt_delivery ON attempt (delivery);

-- A vendor's callback. `request` is sealed; once handled only the digest stays, so that a repeat is known.
CREATE TABLE callback (
    key       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id        text COLLATE "C" NOT NULL UNIQUE,
    job       bigint           NOT NULL,
    digest    text COLLATE "C" NOT NULL,
    lane      text COLLATE "C" NOT NULL,
    version   integer          NOT NULL DEFAULT 1,
    request   text,
    due       double precision,
    leased    boolean          NOT NULL,
    lapses    integer          NOT NULL DEFAULT 0,
    postponed boolean          NOT NULL DEFAULT false,
    UNIQUE (job, digest)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
        autovacuum_analyze_scale_factor = 0.05);
ALTER TABLE callback ALTER COLUMN request SET STORAGE EXTERNAL;
CREATE INDEX callback_due ON callback (lane, due) WHERE due IS NOT NULL;

-- A lane that does not fare well; of a healthy one there is no row.
CREATE TABLE lane (
    stage        text COLLATE "C" NOT NULL,
    lane         text COLLATE "C" NOT NULL,
    failures     integer NOT NULL,
    closed_until double precision,
    slots        integer,
    PRIMARY KEY (stage, lane)
) WITH (fillfactor = 50);

-- Relays that live on this database, and when each was last heard of.
CREATE TABLE replica (
    id   text COLLATE "C" PRIMARY KEY,
    seen double precision NOT NULL
) WITH (fillfactor = 50);
