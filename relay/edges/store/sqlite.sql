-- What the store asks of SQLite. `:now` is the store's clock; `:rows`, `:keys` and `:lanes` are JSON arrays.

-- name: accept_jobs
-- New jobs; those whose request id is taken are left out.
INSERT INTO job (id, request_id, version, state, lane, due, leased, deadline,
                 connection, vendor, operation, correlation_id, accepted_at)
SELECT r.value ->> 'id', r.value ->> 'request_id', r.value ->> 'version', r.value ->> 'state', r.value ->> 'lane',
       :now + iif(r.value ->> 'hold' IS NOT NULL AND l.lane IS NULL, r.value ->> 'hold', r.value ->> 'delay'),
       r.value ->> 'hold' IS NOT NULL AND l.lane IS NULL,
       :now + (r.value ->> 'delay') + (r.value ->> 'timeout'),
       r.value ->> 'connection', r.value ->> 'vendor', r.value ->> 'operation', r.value ->> 'correlation_id',
       r.value ->> 'accepted_at'
FROM json_each(:rows) AS r
LEFT JOIN lane AS l ON l.stage = 'work' AND l.lane = r.value ->> 'lane' AND l.slots IS NOT NULL
WHERE true
ON CONFLICT DO NOTHING
RETURNING key, id, leased, deadline;

-- name: keep_specs
INSERT INTO job_spec (job, fingerprint, spec, metadata)
SELECT r.value ->> 0, r.value ->> 1, r.value ->> 2, r.value ->> 3 FROM json_each(:rows) AS r;

-- name: keep_pictures
INSERT INTO job_picture (job, picture)
SELECT r.value ->> 0, r.value ->> 1 FROM json_each(:rows) AS r;

-- name: note_replies
-- Reply queues of jobs; the new ones come back.
INSERT INTO reply (job, reply)
SELECT r.value ->> 0, r.value ->> 1 FROM json_each(:rows) AS r
WHERE true
ON CONFLICT DO NOTHING
RETURNING job, reply;

-- name: request_owners
-- Whose job a request id is.
SELECT j.request_id, j.key, j.id, s.fingerprint
FROM json_each(:rows) AS r
JOIN job AS j ON j.request_id = r.value
JOIN job_spec AS s ON s.job = j.key;

-- name: move_jobs
-- Each job's next picture, if its version is still the one that it was made from. A final state stays.
UPDATE job
SET version = job.version + 1,
    state = r.value ->> 'state',
    due = CASE r.value ->> 'timing'
              WHEN 'ended' THEN NULL
              WHEN 'exact' THEN :now + (r.value ->> 'delay')
              WHEN 'capped' THEN min(:now + (r.value ->> 'delay'), job.deadline)
              ELSE job.deadline
          END,
    leased = r.value ->> 'leased',
    lapses = 0,
    ended = iif(r.value ->> 'timing' = 'ended', coalesce(job.ended, :now), NULL),
    vendor_job_id = r.value ->> 'vendor_job_id',
    error_code = r.value ->> 'error_code'
FROM json_each(:rows) AS r
WHERE job.id = r.value ->> 'id'
  AND job.version = r.value ->> 'version'
  AND (job.ended IS NULL OR job.state = r.value ->> 'state')
RETURNING key, id, deadline;

-- name: renew_pictures
UPDATE job_picture SET picture = r.value ->> 1 FROM json_each(:rows) AS r WHERE job = r.value ->> 0;

-- name: note_vendor_jobs
INSERT INTO vendor_job (vendor_job_id, job)
SELECT r.value ->> 1, r.value ->> 0 FROM json_each(:rows) AS r
WHERE true
ON CONFLICT DO NOTHING;

-- name: write_history
INSERT INTO history (job, at, what, state, detail)
SELECT r.value ->> 0, r.value ->> 1, r.value ->> 2, r.value ->> 3, r.value ->> 4 FROM json_each(:rows) AS r;

-- name: write_events
INSERT INTO event (id, job, type, connection, operation, body, at)
SELECT r.value ->> 'id', r.value ->> 'job', r.value ->> 'type', r.value ->> 'connection', r.value ->> 'operation',
       r.value ->> 'body', :now
FROM json_each(:rows) AS r
RETURNING key, id;

-- name: write_refusals
-- Events of refused requests; those that are there already are left out.
INSERT INTO event (id, type, connection, operation, body, at)
SELECT r.value ->> 'id', r.value ->> 'type', r.value ->> 'connection', r.value ->> 'operation', r.value ->> 'body', :now
FROM json_each(:rows) AS r
WHERE true
ON CONFLICT (id) DO NOTHING
RETURNING key, id;

-- name: write_deliveries
-- Deliveries of events, due at once; held ones are leased where their lane is open.
INSERT INTO delivery (id, event, kind, lane, host, name, target, state, since, patience, expires, created_at, due, leased)
SELECT r.value ->> 'id', r.value ->> 'event', r.value ->> 'kind', r.value ->> 'lane', r.value ->> 'host',
       r.value ->> 'name', r.value ->> 'target', 'pending', :now, r.value ->> 'patience',
       :now + (r.value ->> 'patience'), :now,
       :now + iif(l.lane IS NULL, coalesce(r.value ->> 'hold', 0.0), 0.0),
       r.value ->> 'hold' IS NOT NULL AND l.lane IS NULL
FROM json_each(:rows) AS r
LEFT JOIN lane AS l ON l.stage = 'announce' AND l.lane = r.value ->> 'lane' AND l.slots IS NOT NULL
RETURNING id, leased, due;

-- name: replies_of_jobs
SELECT job, reply FROM reply WHERE job IN (SELECT value FROM json_each(:keys));

-- name: events_of_jobs
SELECT e.job, e.key, e.id FROM event AS e WHERE e.job IN (SELECT value FROM json_each(:keys));

-- name: consume_callbacks
-- Handled callbacks keep their digest alone.
UPDATE callback SET version = version + 1, request = NULL, due = NULL, leased = 0
WHERE id IN (SELECT value FROM json_each(:rows));

-- name: wake_callbacks
-- Callbacks that waited for these jobs' submits become due.
UPDATE callback SET due = :now, postponed = 0
WHERE job IN (SELECT value FROM json_each(:keys)) AND postponed AND due IS NOT NULL
RETURNING job;

-- name: jobs_by_id
-- Whole jobs.
SELECT j.id, j.version, j.state, j.lapses, j.deadline, j.accepted_at, s.spec, p.picture, j.key
FROM job AS j JOIN job_spec AS s ON s.job = j.key JOIN job_picture AS p ON p.job = j.key
WHERE j.id IN (SELECT value FROM json_each(:rows));

-- name: jobs_by_key
-- Whole jobs.
SELECT j.id, j.version, j.state, j.lapses, j.deadline, j.accepted_at, s.spec, p.picture, j.key
FROM job AS j JOIN job_spec AS s ON s.job = j.key JOIN job_picture AS p ON p.job = j.key
WHERE j.key IN (SELECT value FROM json_each(:keys));

-- name: {table}_heads
-- Lanes in which rows wait, by skip scan: when the first is due, and how the lane fares if not well.
WITH RECURSIVE waiting (lane) AS (
    SELECT (SELECT lane FROM {table} INDEXED BY {table}_due WHERE due IS NOT NULL ORDER BY lane LIMIT 1)
    UNION ALL
    SELECT (SELECT t.lane FROM {table} AS t INDEXED BY {table}_due
            WHERE t.due IS NOT NULL AND t.lane > waiting.lane ORDER BY t.lane LIMIT 1)
    FROM waiting WHERE waiting.lane IS NOT NULL
)
SELECT w.lane,
       (SELECT t.due FROM {table} AS t INDEXED BY {table}_due
        WHERE t.due IS NOT NULL AND t.lane = w.lane ORDER BY t.due LIMIT 1),
       l.failures, l.closed_until, l.slots
FROM waiting AS w LEFT JOIN lane AS l ON l.stage = :stage AND l.lane = w.lane
WHERE w.lane IS NOT NULL;

-- name: {table}_due
-- The first due rows of each of these lanes, at most `:most` of each.
SELECT t.key, t.lane, t.due
FROM json_each(:lanes) AS w
CROSS JOIN {table} AS t ON t.key IN (
    SELECT k.key FROM {table} AS k INDEXED BY {table}_due
    WHERE k.lane = w.value AND k.due <= :now AND k.due IS NOT NULL ORDER BY k.due, k.key LIMIT :most);

-- name: {table}_lease
-- To the caller, until then. One that was leased still is one that its holder let lapse.
UPDATE {table} SET version = version + 1, lapses = lapses + leased, leased = 1, due = :until
WHERE key IN (SELECT value FROM json_each(:keys));

-- name: {table}_next
-- When the next row of these lanes is due.
SELECT min((SELECT t.due FROM {table} AS t INDEXED BY {table}_due
            WHERE t.due IS NOT NULL AND t.lane = w.value ORDER BY t.due LIMIT 1))
FROM json_each(:lanes) AS w;

-- name: {table}_void_leases
-- At start, where no other process holds any: what was leased is due, and counts as lapsed.
UPDATE {table} SET due = :now WHERE leased AND due IS NOT NULL;

-- name: void_probes
UPDATE lane SET closed_until = :now WHERE slots = 1;

-- name: lanes
-- How these lanes fare, those of them that do not fare well: `:rows` is of [stage, lane].
SELECT l.stage, l.lane, l.failures, l.closed_until, l.slots
FROM json_each(:rows) AS r JOIN lane AS l ON l.stage = r.value ->> 0 AND l.lane = r.value ->> 1;

-- name: keep_lanes
INSERT INTO lane (stage, lane, failures, closed_until, slots)
SELECT r.value ->> 0, r.value ->> 1, r.value ->> 2, r.value ->> 3, r.value ->> 4 FROM json_each(:rows) AS r
WHERE true
ON CONFLICT (stage, lane) DO UPDATE
SET failures = excluded.failures, closed_until = excluded.closed_until, slots = excluded.slots;

-- name: forget_lanes
-- Lanes that fare well again.
DELETE FROM lane WHERE (stage, lane) IN (SELECT r.value ->> 0, r.value ->> 1 FROM json_each(:rows) AS r);

-- name: job_by_id
SELECT j.id, j.version, j.state, j.lapses, j.deadline, j.accepted_at, s.spec, p.picture, j.key
FROM job AS j JOIN job_spec AS s ON s.job = j.key JOIN job_picture AS p ON p.job = j.key
WHERE j.id = :id;
