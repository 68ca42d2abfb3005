-- What the store asks of SQLite.
-- `:now` is the store's clock; `:rows`, `:keys` (a table's own) and `:lanes` are JSON arrays. A name with `{table}`
-- stands for one query for each of the tables whose rows fall due; `{where}` for the conditions of a listing.

-- name: accept_jobs
-- New jobs; those whose request id is taken are left out. What is leased at once may be further already: `started`.
INSERT INTO job (id, request_id, version, state, lane, due, leased, deadline, limited, waits_from,
                 connection, vendor, operation, correlation_id, accepted_at, picture)
SELECT r.value ->> 'id', r.value ->> 'request_id', r.value ->> 'version',
       coalesce(iif(l.lane IS NULL, r.value ->> 'started', NULL), r.value ->> 'state'), r.value ->> 'lane',
       :now + CASE WHEN r.value ->> 'limited' THEN (r.value ->> 'delay') + (r.value ->> 'timeout')
                   WHEN r.value ->> 'hold' IS NOT NULL AND l.lane IS NULL THEN r.value ->> 'hold'
                   ELSE r.value ->> 'delay' END,
       r.value ->> 'hold' IS NOT NULL AND l.lane IS NULL,
       :now + (r.value ->> 'delay') + (r.value ->> 'timeout'),
       r.value ->> 'limited', iif(r.value ->> 'limited', :now + (r.value ->> 'delay'), NULL),
       r.value ->> 'connection', r.value ->> 'vendor', r.value ->> 'operation', r.value ->> 'correlation_id',
       r.value ->> 'accepted_at',
       coalesce(iif(l.lane IS NULL, r.value ->> 'started_picture', NULL), r.value ->> 'picture')
FROM jsonb_each(:rows) AS r
LEFT JOIN lane AS l ON l.stage = 'work' AND l.lane = r.value ->> 'lane' AND l.slots IS NOT NULL
WHERE true
ON CONFLICT DO NOTHING
RETURNING id, key, leased, deadline;

-- name: keep_specs
INSERT INTO job_spec (job, fingerprint, spec, metadata)
SELECT r.value ->> 0, r.value ->> 1, r.value ->> 2, r.value ->> 3 FROM jsonb_each(:rows) AS r;

-- name: note_replies
-- Queues that want jobs' events; those that are new come back.
INSERT INTO reply (job, reply)
SELECT r.value ->> 0, r.value ->> 1 FROM jsonb_each(:rows) AS r
WHERE true
ON CONFLICT DO NOTHING
RETURNING job, reply;

-- name: request_owners
-- Whose job each of these request ids is.
SELECT j.request_id, j.key, j.id, s.fingerprint
FROM jsonb_each(:rows) AS r
CROSS JOIN job AS j ON j.request_id = r.value
JOIN job_spec AS s ON s.job = j.key;

-- name: move_jobs
-- Each job's next picture, if its version is still the one that it was made from, and the callback that it came from is
-- none that is known. A final state stays.
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
    error_code = r.value ->> 'error_code',
    picture = r.value ->> 'picture'
FROM jsonb_each(:rows) AS r
WHERE job.id = r.value ->> 'id'
  AND job.version = r.value ->> 'version'
  AND (job.ended IS NULL OR job.state = r.value ->> 'state')
  AND (r.value ->> 'heard' IS NULL
       OR NOT EXISTS (SELECT 1 FROM callback AS k WHERE k.job = job.key AND k.digest = r.value ->> 'heard'))
RETURNING id, key, deadline;

-- name: keep_results
INSERT INTO job_result (job, result)
SELECT r.value ->> 0, r.value ->> 1 FROM jsonb_each(:rows) AS r
WHERE true
ON CONFLICT (job) DO UPDATE SET result = excluded.result;

-- name: note_vendor_jobs
INSERT INTO vendor_job (job, vendor_job_id)
SELECT r.value ->> 0, r.value ->> 1 FROM jsonb_each(:rows) AS r
WHERE true
ON CONFLICT DO NOTHING;

-- name: write_history
INSERT INTO history (job, at, what, state, detail)
SELECT r.value ->> 0, r.value ->> 1, r.value ->> 2, r.value ->> 3, r.value ->> 4 FROM jsonb_each(:rows) AS r;

-- name: write_events
-- Jobs' terminal events. A second one of a job is an error, whatever its id.
INSERT INTO event (id, job, type, connection, operation, body, at)
SELECT r.value ->> 'id', r.value ->> 'job', r.value ->> 'type', r.value ->> 'connection', r.value ->> 'operation',
       r.value ->> 'body', :now
FROM jsonb_each(:rows) AS r;

-- name: write_refusals
-- Events of refused requests; those that are there already are left out.
INSERT INTO event (id, type, connection, operation, body, at)
SELECT r.value ->> 'id', r.value ->> 'type', r.value ->> 'connection', r.value ->> 'operation', r.value ->> 'body', :now
FROM jsonb_each(:rows) AS r
WHERE true
ON CONFLICT (id) DO NOTHING
RETURNING id;

-- name: write_deliveries
-- Events' ways to their targets, due at once; held ones are leased where their lane is open. Those that are there
-- already are left out.
INSERT INTO delivery (id, event, kind, lane, host, name, target, state, since, patience, expires, created_at, due, leased)
SELECT r.value ->> 'id', e.key, r.value ->> 'kind', r.value ->> 'lane', r.value ->> 'host', r.value ->> 'name',
       r.value ->> 'target', 'pending', :now, r.value ->> 'patience', :now + (r.value ->> 'patience'), :now,
       :now + iif(l.lane IS NULL, coalesce(r.value ->> 'hold', 0.0), 0.0),
       r.value ->> 'hold' IS NOT NULL AND l.lane IS NULL
FROM jsonb_each(:rows) AS r
CROSS JOIN event AS e ON e.id = r.value ->> 'event'
LEFT JOIN lane AS l ON l.stage = 'announce' AND l.lane = r.value ->> 'lane' AND l.slots IS NOT NULL
WHERE true
ON CONFLICT (id) DO NOTHING
RETURNING id, leased, due;

-- name: replies_of_jobs
SELECT job, reply FROM reply WHERE job IN (SELECT value FROM json_each(:keys));

-- name: events_of_jobs
SELECT e.job, e.id, e.key, j.id
FROM json_each(:keys) AS r CROSS JOIN event AS e ON e.job = r.value JOIN job AS j ON j.key = e.job;

-- name: move_deliveries
-- What became of attempts, if each delivery's version is still the one that was tried.
UPDATE delivery
SET version = delivery.version + 1,
    state = r.value ->> 'state',
    reason = r.value ->> 'reason',
    tries = tries + (r.value ->> 'spent'),
    attempts = attempts + (r.value ->> 'spent'),
    due = :now + (r.value ->> 'delay'),
    finished_at = iif(r.value ->> 'state' = 'pending', NULL, :now),
    leased = 0,
    lapses = 0
FROM jsonb_each(:rows) AS r
WHERE delivery.id = r.value ->> 'id' AND delivery.version = r.value ->> 'version'
RETURNING id, key;

-- name: write_attempts
INSERT INTO attempt (delivery, number, at, duration, outcome, status, error, excerpt)
SELECT r.value ->> 0, r.value ->> 1, r.value ->> 2, r.value ->> 3, r.value ->> 4, r.value ->> 5, r.value ->> 6,
       r.value ->> 7
FROM jsonb_each(:rows) AS r;

-- name: redeliver
-- Ended deliveries start anew.
UPDATE delivery
SET version = version + 1, state = 'pending', reason = NULL, tries = 0, since = :now, expires = :now + patience,
    due = :now, finished_at = NULL, leased = 0, lapses = 0
WHERE id IN (SELECT value FROM jsonb_each(:rows)) AND state <> 'pending'
RETURNING id;

-- name: jobs_of_deliveries
-- These deliveries, as far as they exist, each with its job, if it has one.
SELECT d.id, j.key, j.state
FROM delivery AS d JOIN event AS e ON e.key = d.event LEFT JOIN job AS j ON j.key = e.job
WHERE d.id IN (SELECT value FROM jsonb_each(:rows));

-- name: keep_callbacks
-- Callbacks of jobs that exist; the same body for the same job a second time is left out.
INSERT INTO callback (id, job, digest, lane, request, due, leased)
SELECT r.value ->> 'id', j.key, r.value ->> 'digest', j.lane, r.value ->> 'request',
       :now + coalesce(r.value ->> 'hold', 0.0), r.value ->> 'hold' IS NOT NULL
FROM jsonb_each(:rows) AS r
CROSS JOIN job AS j ON j.id = r.value ->> 'job_id'
WHERE true
ON CONFLICT DO NOTHING
RETURNING id;

-- name: know_callbacks
-- Callbacks that are handled with the move that they bring.
INSERT INTO callback (job, id, digest, lane, leased)
SELECT r.value ->> 0, r.value ->> 1, r.value ->> 2, r.value ->> 3, 0 FROM jsonb_each(:rows) AS r
WHERE true
ON CONFLICT DO NOTHING;

-- name: finish_callbacks
-- Of a handled callback only the digest stays.
UPDATE callback SET version = callback.version + 1, request = NULL, due = NULL, leased = 0, postponed = 0
FROM jsonb_each(:rows) AS r
WHERE callback.id = r.value ->> 0 AND callback.version = r.value ->> 1 AND callback.request IS NOT NULL
RETURNING id, job;

-- name: consume_callbacks
-- The same, where the job's version was the guard.
UPDATE callback SET version = version + 1, request = NULL, due = NULL, leased = 0, postponed = 0
WHERE id IN (SELECT value FROM jsonb_each(:rows)) AND request IS NOT NULL;

-- name: postpone_callbacks
-- To wait for the job's submit, or for a while; not at all where the submit has ended meanwhile.
UPDATE callback
SET version = callback.version + 1, leased = 0, lapses = 0,
    postponed = j.state = 'submitting',
    due = iif(j.state = 'submitting', :now + (r.value ->> 2), :now)
FROM jsonb_each(:rows) AS r, job AS j
WHERE callback.id = r.value ->> 0 AND callback.version = r.value ->> 1 AND callback.request IS NOT NULL
  AND j.key = callback.job
RETURNING id, postponed;

-- name: wake_callbacks
-- Callbacks that waited for these jobs' submits become due.
UPDATE callback SET due = :now, postponed = 0
WHERE job IN (SELECT value FROM json_each(:keys)) AND postponed
RETURNING job;

-- name: lanes
-- How these lanes fare, those of them that do not fare well: `:rows` is of [stage, lane].
SELECT l.stage, l.lane, l.failures, l.closed_until, l.slots
FROM jsonb_each(:rows) AS r CROSS JOIN lane AS l ON l.stage = r.value ->> 0 AND l.lane = r.value ->> 1;

-- name: begin_lanes
-- A place for how these lanes fare, where there is none yet.
INSERT INTO lane (stage, lane, failures)
SELECT r.value ->> 0, r.value ->> 1, 0 FROM jsonb_each(:rows) AS r
WHERE true
ON CONFLICT DO NOTHING;

-- name: keep_lanes
INSERT INTO lane (stage, lane, failures, closed_until, slots)
SELECT r.value ->> 0, r.value ->> 1, r.value ->> 2, r.value ->> 3, r.value ->> 4 FROM jsonb_each(:rows) AS r
WHERE true
ON CONFLICT (stage, lane) DO UPDATE
SET failures = excluded.failures, closed_until = excluded.closed_until, slots = excluded.slots;

-- name: probe_lanes
-- Closed lanes whose one probe goes out now, under a lease until then; not those where another's is out meanwhile.
UPDATE lane SET closed_until = :until, slots = 1
FROM jsonb_each(:rows) AS r
WHERE lane.stage = r.value ->> 0 AND lane.lane = r.value ->> 1 AND lane.slots IN (0, 1) AND lane.closed_until <= :now
RETURNING lane;

-- name: forget_lanes
-- Lanes that fare well again.
DELETE FROM lane WHERE (stage, lane) IN (SELECT r.value ->> 0, r.value ->> 1 FROM jsonb_each(:rows) AS r);

-- name: forget_open_lanes
-- The same, unless they have been closed since.
DELETE FROM lane
WHERE slots > 1 AND (stage, lane) IN (SELECT r.value ->> 0, r.value ->> 1 FROM jsonb_each(:rows) AS r);

-- name: forget_idle_lanes
-- Receivers' lanes that may be tried and in which nothing waits: hosts and reply queues come and go.
DELETE FROM lane WHERE stage = 'announce' AND lane IN (
    SELECT l.lane FROM lane AS l
    WHERE l.stage = 'announce' AND (l.closed_until IS NULL OR l.closed_until <= :now)
      AND NOT EXISTS (SELECT 1 FROM delivery AS d INDEXED BY delivery_due WHERE d.lane = l.lane AND d.due IS NOT NULL)
    LIMIT :batch)
RETURNING lane;

-- name: {table}_heads
-- Lanes in which rows wait, by skip scan: when the first is due, and how the lane fares if not well.
WITH RECURSIVE waiting (lane) AS (
    SELECT (SELECT t.lane FROM {table} AS t INDEXED BY {table}_due WHERE t.due IS NOT NULL ORDER BY t.lane LIMIT 1)
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
    WHERE k.lane = w.value AND k.due <= :now AND k.due IS NOT NULL ORDER BY k.due LIMIT :most);

-- name: job_overdue
-- The same, of jobs whose time is up: they pass where the others wait.
SELECT j.key, j.lane, j.due
FROM json_each(:lanes) AS w
CROSS JOIN job AS j ON j.key IN (
    SELECT k.key FROM job AS k INDEXED BY job_overdue
    WHERE k.lane = w.value AND k.deadline <= :now AND k.due <= :now AND k.due IS NOT NULL
    ORDER BY k.deadline LIMIT :most);

-- name: {table}_lease
-- To the caller, until then. One that is leased still is one that its holder let lapse.
UPDATE {table} SET version = version + 1, lapses = lapses + leased, leased = 1, due = :until
WHERE key IN (SELECT value FROM json_each(:keys));

-- name: hold_places
-- Lanes in which jobs wait for a place.
SELECT r.value FROM json_each(:lanes) AS r
WHERE EXISTS (SELECT 1 FROM job AS w INDEXED BY job_waiting
              WHERE w.lane = r.value AND w.waits_from <= :now AND w.waits_from IS NOT NULL AND w.due IS NOT NULL);

-- name: give_places
-- A lane's free places, of `:most`, to those who have waited longest. A place is taken until its job has ended.
UPDATE job SET waits_from = NULL, due = :now
WHERE key IN (
    SELECT w.key FROM job AS w INDEXED BY job_waiting
    WHERE w.lane = :lane AND w.waits_from <= :now AND w.waits_from IS NOT NULL AND w.due IS NOT NULL AND NOT w.leased
    ORDER BY w.waits_from
    LIMIT max(0, :most - (SELECT count(*) FROM job AS t INDEXED BY job_places
                          WHERE t.lane = :lane AND t.limited AND t.waits_from IS NULL AND t.due IS NOT NULL)));

-- name: free_jobs
-- Jobs that wait for a place where there is no limit any more.
UPDATE job SET waits_from = NULL, due = min(max(waits_from, :now), deadline)
WHERE key IN (
    SELECT w.key FROM job AS w INDEXED BY job_waiting
    WHERE w.waits_from IS NOT NULL AND w.due IS NOT NULL AND NOT w.leased
      AND w.lane NOT IN (SELECT value FROM json_each(:lanes))
    LIMIT :batch)
RETURNING key;

-- name: {table}_next
-- When the next row of these lanes is due.
SELECT min((SELECT t.due FROM {table} AS t INDEXED BY {table}_due
            WHERE t.due IS NOT NULL AND t.lane = w.value ORDER BY t.due LIMIT 1))
FROM json_each(:lanes) AS w;

-- name: {table}_oldest
-- When the row that has waited longest was due.
WITH RECURSIVE waiting (lane) AS (
    SELECT (SELECT t.lane FROM {table} AS t INDEXED BY {table}_due WHERE t.due IS NOT NULL ORDER BY t.lane LIMIT 1)
    UNION ALL
    SELECT (SELECT t.lane FROM {table} AS t INDEXED BY {table}_due
            WHERE t.due IS NOT NULL AND t.lane > waiting.lane ORDER BY t.lane LIMIT 1)
    FROM waiting WHERE waiting.lane IS NOT NULL
)
SELECT min((SELECT t.due FROM {table} AS t INDEXED BY {table}_due
            WHERE t.due IS NOT NULL AND t.lane = w.lane ORDER BY t.due LIMIT 1))
FROM waiting AS w WHERE w.lane IS NOT NULL;

-- name: {table}_void_leases
-- At start, when nobody can hold any: what is leased is due, and its next claim counts as a lapse.
UPDATE {table} SET due = :now WHERE leased AND due IS NOT NULL;

-- name: void_probes
UPDATE lane SET closed_until = :now WHERE slots = 1;

-- name: jobs_by_id
-- Whole jobs.
SELECT j.key, j.id, j.version, j.state, j.lapses, j.deadline, j.accepted_at, s.spec, j.picture, o.result
FROM jsonb_each(:rows) AS r
CROSS JOIN job AS j ON j.id = r.value
JOIN job_spec AS s ON s.job = j.key
LEFT JOIN job_result AS o ON o.job = j.key;

-- name: jobs_by_key
-- Whole jobs.
SELECT j.key, j.id, j.version, j.state, j.lapses, j.deadline, j.accepted_at, s.spec, j.picture, o.result
FROM json_each(:keys) AS r
CROSS JOIN job AS j ON j.key = r.value
JOIN job_spec AS s ON s.job = j.key
LEFT JOIN job_result AS o ON o.job = j.key;

-- name: callbacks_by_key
SELECT c.key, c.id, c.version, j.id, c.lane, c.lapses, c.request
FROM json_each(:keys) AS r
CROSS JOIN callback AS c ON c.key = r.value
JOIN job AS j ON j.key = c.job;

-- name: deliveries_by_key
-- Whole deliveries, with their events.
SELECT d.key, d.id, d.version, d.kind, d.lane, d.host, d.name, d.target, d.state, d.reason, d.tries, d.attempts,
       d.since, d.patience, d.created_at, d.due, d.finished_at, e.id, e.type, j.id, e.connection, e.operation, e.body
FROM json_each(:keys) AS r
CROSS JOIN delivery AS d ON d.key = r.value
JOIN event AS e ON e.key = d.event
LEFT JOIN job AS j ON j.key = e.job;

-- name: key_by_request
SELECT key FROM job WHERE request_id = :request_id;

-- name: key_of_delivery
SELECT key FROM delivery WHERE id = :id;

-- name: history
SELECT h.at, h.what, h.state, h.detail
FROM history AS h JOIN job AS j ON j.key = h.job
WHERE j.id = :id ORDER BY h.key;

-- name: event
SELECT e.id, e.type, j.id, e.connection, e.operation, e.body
FROM event AS e LEFT JOIN job AS j ON j.key = e.job
WHERE e.id = :id;

-- name: attempts
SELECT a.number, a.at, a.duration, a.outcome, a.status, a.error, a.excerpt
FROM attempt AS a JOIN delivery AS d ON d.key = a.delivery
WHERE d.id = :id ORDER BY a.key;

-- name: jobs
-- A page of jobs, newest first, without their results.
SELECT j.key, j.id, j.version, j.state, j.lapses, j.deadline, j.accepted_at, s.spec, j.picture, NULL
FROM job AS j JOIN job_spec AS s ON s.job = j.key
WHERE {where}
ORDER BY j.accepted_at DESC, j.key DESC
LIMIT :limit;

-- name: jobs:count
SELECT count(*)
FROM job AS j JOIN job_spec AS s ON s.job = j.key
WHERE {where};

-- name: jobs.states
j.state IN (SELECT value FROM json_each(:states))

-- name: jobs.besides
j.operation <> :besides

-- name: jobs.state
j.state = :state

-- name: jobs.connection
j.connection = :connection

-- name: jobs.vendor
j.vendor = :vendor

-- name: jobs.operation
j.operation = :operation

-- name: jobs.request_id
j.request_id = :request_id

-- name: jobs.vendor_job_id
j.key IN (SELECT key FROM job WHERE vendor_job_id = :vendor_job_id
          UNION SELECT job FROM vendor_job WHERE vendor_job_id = :vendor_job_id)

-- name: jobs.correlation_id
j.correlation_id = :correlation_id

-- name: jobs.error_code
j.error_code = :error_code

-- name: jobs.metadata
-- Every pair asked for is there; a value that is no text counts as its JSON.
NOT EXISTS (
    SELECT 1 FROM json_each(:metadata) AS m
    WHERE NOT EXISTS (
        SELECT 1 FROM json_each(s.metadata) AS v
        WHERE v.key = m.key
          AND iif(v.type IN ('true', 'false', 'null'), v.type, CAST(v.value AS TEXT)) = m.value))

-- name: jobs.since
j.accepted_at >= :since

-- name: jobs.until
j.accepted_at < :until

-- name: jobs.connections
j.connection IN (SELECT value FROM json_each(:connections))

-- name: jobs.cursor
(j.accepted_at, j.key) < (:cursor_at, :cursor_key)

-- name: deliveries
-- A page of deliveries, newest first, without their targets and bodies.
SELECT d.key, d.id, d.version, d.kind, d.lane, d.host, d.name, '', d.state, d.reason, d.tries, d.attempts,
       d.since, d.patience, d.created_at, d.due, d.finished_at, e.id, e.type, j.id, e.connection, e.operation, ''
FROM delivery AS d JOIN event AS e ON e.key = d.event LEFT JOIN job AS j ON j.key = e.job
WHERE {where}
ORDER BY d.created_at DESC, d.key DESC
LIMIT :limit;

-- name: deliveries.state
d.state = :state

-- name: deliveries.undelivered
d.state IN ('pending', 'exhausted', 'blocked', 'disabled')

-- name: deliveries.ended
d.state IN ('delivered', 'exhausted', 'blocked', 'disabled')

-- name: deliveries.subscription
d.kind = 'subscription' AND d.lane = 'subscription:' || :subscription

-- name: deliveries.job_id
d.event = (SELECT e2.key FROM event AS e2 JOIN job AS j2 ON j2.key = e2.job WHERE j2.id = :job_id)

-- name: deliveries.target
d.host = :target

-- name: deliveries.event
:event IN (e.id, e.type)

-- name: deliveries.connection
e.connection = :connection

-- name: deliveries.since
d.created_at >= :since

-- name: deliveries.until
d.created_at < :until

-- name: deliveries.connections
e.connection IN (SELECT value FROM json_each(:connections))

-- name: deliveries.cursor
(d.created_at, d.key) < (:cursor_at, :cursor_key)

-- name: count_jobs
SELECT state, connection, count(*) FROM job GROUP BY state, connection;

-- name: count_deliveries
SELECT state, count(*) FROM delivery GROUP BY state;

-- name: oldest_undelivered
SELECT min(created_at) FROM delivery WHERE state = 'pending';

-- name: ping
SELECT 1;

-- name: touch
-- Writes a page with what it holds already: an UPDATE to the same would write nothing.
PRAGMA user_version = 0;

-- name: ended_jobs
-- Jobs that ended long ago and have told it to everybody. What a deleted subscription has not got waits for nobody.
SELECT j.key FROM job AS j
WHERE j.ended <= :before
  AND NOT EXISTS (SELECT 1 FROM event AS e JOIN delivery AS d ON d.event = e.key
                  WHERE e.job = j.key AND d.state <> 'delivered'
                    AND (d.due IS NOT NULL OR d.kind <> 'subscription'
                         OR EXISTS (SELECT 1 FROM subscription AS s WHERE s.id = substr(d.lane, 14))))
ORDER BY j.ended LIMIT :batch;

-- name: ended_refusals
-- The same of refused requests' events.
SELECT e.key FROM event AS e
WHERE e.job IS NULL AND e.at <= :before
  AND NOT EXISTS (SELECT 1 FROM delivery AS d WHERE d.event = e.key AND d.state <> 'delivered')
ORDER BY e.at LIMIT :batch;

-- name: droppable_jobs
-- Which of these still may go: a delivery may have been asked for again meanwhile.
SELECT j.key FROM job AS j
WHERE j.key IN (SELECT value FROM json_each(:keys))
  AND NOT EXISTS (SELECT 1 FROM event AS e JOIN delivery AS d ON d.event = e.key
                  WHERE e.job = j.key AND d.state <> 'delivered'
                    AND (d.due IS NOT NULL OR d.kind <> 'subscription'
                         OR EXISTS (SELECT 1 FROM subscription AS s WHERE s.id = substr(d.lane, 14))));

-- name: droppable_refusals
SELECT e.key FROM event AS e
WHERE e.key IN (SELECT value FROM json_each(:keys))
  AND NOT EXISTS (SELECT 1 FROM delivery AS d WHERE d.event = e.key AND d.state <> 'delivered');

-- name: drop_attempts
DELETE FROM attempt WHERE delivery IN (SELECT key FROM delivery WHERE event IN (SELECT value FROM json_each(:keys)));

-- name: drop_deliveries
DELETE FROM delivery WHERE event IN (SELECT value FROM json_each(:keys));

-- name: drop_events
DELETE FROM event WHERE key IN (SELECT value FROM json_each(:keys));

-- name: drop_history
DELETE FROM history WHERE job IN (SELECT value FROM json_each(:keys));

-- name: drop_callbacks
DELETE FROM callback WHERE job IN (SELECT value FROM json_each(:keys));

-- name: drop_replies
DELETE FROM reply WHERE job IN (SELECT value FROM json_each(:keys));

-- name: drop_vendor_jobs
DELETE FROM vendor_job WHERE job IN (SELECT value FROM json_each(:keys));

-- name: drop_results
DELETE FROM job_result WHERE job IN (SELECT value FROM json_each(:keys));

-- name: drop_specs
DELETE FROM job_spec WHERE job IN (SELECT value FROM json_each(:keys));

-- name: drop_jobs
DELETE FROM job WHERE key IN (SELECT value FROM json_each(:keys));

-- name: give_up_deliveries
-- Deliveries whose patience ended while their lane was closed: nobody will try them, so nobody else would say so. Those
-- of a paused subscription wait.
UPDATE delivery
SET version = version + 1, state = 'exhausted', due = NULL, leased = 0, finished_at = :now,
    reason = 'its time ran out while its target was down'
WHERE key IN (
    SELECT d.key FROM lane AS l CROSS JOIN delivery AS d INDEXED BY delivery_expires ON d.lane = l.lane
    WHERE l.stage = 'announce' AND l.slots IS NOT NULL
      AND d.expires <= :now AND d.expires IS NOT NULL AND d.due IS NOT NULL AND d.due <= :now
      AND NOT EXISTS (SELECT 1 FROM subscription AS s
                      WHERE d.kind = 'subscription' AND s.id = substr(d.lane, 14) AND s.state = 'paused')
    LIMIT :batch)
RETURNING id;
