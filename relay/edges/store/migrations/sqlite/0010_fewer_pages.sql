-- A commit costs as much as the pages that it touches, and each table and each index has pages of its own.

-- How far a job has come is told anew at each of its steps, so it stays with them: all that nothing is searched by.
ALTER TABLE job ADD COLUMN picture TEXT NOT NULL DEFAULT '{}';
UPDATE job SET picture = coalesce((SELECT p.picture FROM job_picture AS p WHERE p.job = job.key), '{}');
DROP TABLE job_picture;

-- Only a callback that waits is asked for by its id; those that are handled are known by their digests.
CREATE TABLE callback_kept (
    key       INTEGER PRIMARY KEY,
    id        TEXT    NOT NULL,
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
INSERT INTO callback_kept
SELECT key, id, job, digest, lane, version, request, due, leased, lapses, postponed FROM callback ORDER BY key;
DROP TABLE callback;
ALTER TABLE callback_kept RENAME TO callback;
CREATE UNIQUE INDEX callback_waiting ON callback (id) WHERE request IS NOT NULL;
CREATE INDEX callback_due ON callback (lane, due) WHERE due IS NOT NULL;
