-- What the store asks of PostgreSQL.
-- `:now` is the store's clock; `:rows`, `:keys` (a table's own) and `:lanes` are JSON arrays. A name with `{table}`
-- stands for one query for each of the tables whose rows fall due; `{where}` for the conditions of a listing.

-- name: accept_jobs
-- New jobs; those whose request id is taken are left out. What is leased at once may be further already: `started`.
WITH asked AS MATERIALIZED (
    SELECT jsonb_object_agg(r.value ->> 'id', r.value) AS by_id FROM jsonb_array_elements(:rows) AS r
), card AS (
    INSERT INTO job_card (id, request_id, state, connection, vendor, operation, correlation_id, accepted_at)
    SELECT r.value ->> 'id', r.value ->> 'request_id',
           coalesce(CASE WHEN l.lane IS NULL THEN r.value ->> 'started' END, r.value ->> 'state'),
           r.value ->> 'connection', r.value ->> 'vendor', r.value ->> 'operation', r.value ->> 'correlation_id',
           (r.value ->> 'accepted_at')::double precision
    FROM jsonb_array_elements(:rows) AS r
    LEFT JOIN lane AS l ON l.stage = 'work' AND l.lane = r.value ->> 'lane' AND l.slots IS NOT NULL
    ON CONFLICT DO NOTHING
    RETURNING id, key
), fresh AS MATERIALIZED (
    SELECT c.id, c.key, r.value, r.value ->> 'hold' IS NOT NULL AND l.lane IS NULL AS leased,
           :now + (r.value ->> 'delay')::double precision + (r.value ->> 'timeout')::double precision AS deadline
    FROM card AS c
    CROSS JOIN LATERAL (SELECT a.by_id -> c.id AS value FROM asked AS a) AS r
    LEFT JOIN lane AS l ON l.stage = 'work' AND l.lane = r.value ->> 'lane' AND l.slots IS NOT NULL
), moving AS (
    INSERT INTO job (key, version, lane, due, leased, deadline, limited, waits_from)
    SELECT f.key, (f.value ->> 'version')::integer, f.value ->> 'lane',
           CASE WHEN (f.value ->> 'limited')::boolean THEN f.deadline
                ELSE :now + (f.value ->> CASE WHEN f.leased THEN 'hold' ELSE 'delay' END)::double precision END,
           f.leased, f.deadline, (f.value ->> 'limited')::boolean,
           CASE WHEN (f.value ->> 'limited')::boolean THEN :now + (f.value ->> 'delay')::double precision END
    FROM fresh AS f
), specified AS (
    INSERT INTO job_spec (job, fingerprint, spec, metadata)
    SELECT f.key, f.value ->> 'fingerprint', f.value ->> 'spec', f.value ->> 'metadata' FROM fresh AS f
), pictured AS (
    INSERT INTO job_picture (job, picture)
    SELECT f.key, coalesce(CASE WHEN f.leased THEN f.value ->> 'started_picture' END, f.value ->> 'picture')
    FROM fresh AS f
), noted AS (
    INSERT INTO history (job, at, what, state, detail)
    SELECT f.key, (f.value -> 'note' ->> 0)::double precision, f.value -> 'note' ->> 1, f.value -> 'note' ->> 2,
           f.value -> 'note' ->> 3
    FROM fresh AS f
    WHERE f.leased AND f.value ->> 'note' IS NOT NULL
)
SELECT id, key, leased, deadline FROM fresh;

-- name: note_replies
-- Queues that want jobs' events; those that are new come back. A job that ends at this moment waits for this, or this
-- for its end: so its event is either sent here by its end, or there to be sent now.
WITH held AS MATERIALIZED (
    SELECT j.key, r.value ->> 1 AS reply
    FROM jsonb_array_elements(:rows) AS r JOIN job AS j ON j.key = (r.value ->> 0)::bigint
    FOR SHARE OF j
)
INSERT INTO reply (job, reply)
SELECT key, reply FROM held
ON CONFLICT DO NOTHING
RETURNING job, reply;

-- name: request_owners
-- Whose job each of these request ids is.
SELECT c.request_id, c.key, c.id, s.fingerprint
FROM jsonb_array_elements_text(:rows) AS r
JOIN job_card AS c ON c.request_id = r.value
JOIN job_spec AS s ON s.job = c.key;

-- name: move_jobs
-- Each job's next picture with its result and the line of its history, if its version is still the one that it was made
-- from, and the callback that it came from is none that is known, and is known from then on: one that another relay
-- stores at this moment is handled there, and comes too late. A final state stays.
WITH moved AS (
    UPDATE job
    SET version = job.version + 1,
        due = CASE r.value ->> 'timing'
                  WHEN 'ended' THEN NULL
                  WHEN 'exact' THEN :now + (r.value ->> 'delay')::double precision
                  WHEN 'capped' THEN least(:now + (r.value ->> 'delay')::double precision, job.deadline)
                  ELSE job.deadline
              END,
        leased = (r.value ->> 'leased')::boolean,
        lapses = 0
    FROM jsonb_array_elements(:rows) AS r JOIN job_card AS c ON c.id = r.value ->> 'id'
    WHERE job.key = c.key
      AND job.version = (r.value ->> 'version')::integer
      AND (c.ended IS NULL OR c.state = r.value ->> 'state')
      AND (r.value ->> 'heard' IS NULL
           OR NOT EXISTS (SELECT 1 FROM callback AS k WHERE k.job = job.key AND k.digest = r.value ->> 'heard'))
    RETURNING c.id, job.key, job.deadline, r.value
), told AS (
    UPDATE job_card AS c
    SET state = m.value ->> 'state',
        ended = CASE WHEN m.value ->> 'timing' = 'ended' THEN coalesce(c.ended, :now) END,
        vendor_job_id = m.value ->> 'vendor_job_id',
        error_code = m.value ->> 'error_code'
    FROM moved AS m
    WHERE c.key = m.key
      AND (c.state, c.vendor_job_id, c.error_code)
          IS DISTINCT FROM (m.value ->> 'state', m.value ->> 'vendor_job_id', m.value ->> 'error_code')
), pictured AS (
    UPDATE job_picture AS p SET picture = m.value ->> 'picture' FROM moved AS m WHERE p.job = m.key
), reported AS (
    INSERT INTO job_result (job, result)
    SELECT m.key, m.value ->> 'result' FROM moved AS m WHERE m.value ->> 'result' IS NOT NULL
    ON CONFLICT (job) DO UPDATE SET result = excluded.result
), named AS (
    INSERT INTO vendor_job (job, vendor_job_id)
    SELECT m.key, f.value FROM moved AS m CROSS JOIN jsonb_array_elements_text(m.value -> 'further') AS f
    ON CONFLICT DO NOTHING
), noted AS (
    INSERT INTO history (job, at, what, state, detail)
    SELECT m.key, (m.value -> 'note' ->> 0)::double precision, m.value -> 'note' ->> 1, m.value -> 'note' ->> 2,
           m.value -> 'note' ->> 3
    FROM moved AS m
    WHERE m.value ->> 'note' IS NOT NULL
), known AS (
    INSERT INTO callback (job, id, digest, lane, leased)
    SELECT m.key, m.value ->> 'callback', m.value ->> 'heard', m.value ->> 'lane', false
    FROM moved AS m
    WHERE m.value ->> 'heard' IS NOT NULL
    ON CONFLICT DO NOTHING
)
SELECT id, key, deadline FROM moved;

-- name: write_history
INSERT INTO history (job, at, what, state, detail)
SELECT (r.value ->> 0)::bigint, (r.value ->> 1)::double precision, r.value ->> 2, r.value ->> 3, r.value ->> 4
FROM jsonb_array_elements(:rows) AS r;

-- name: end_jobs
-- Jobs' terminal events. A second one of a job is an error, whatever its id. Callbacks that waited for the jobs' submits
-- become due. Told are those, and who asked for an event at a queue: it follows the moves, whose locks it needs to see
-- what others have written before.
WITH told AS (
    INSERT INTO event (id, job, type, connection, operation, body, at)
    SELECT r.value ->> 'id', (r.value ->> 'job')::bigint, r.value ->> 'type', r.value ->> 'connection',
           r.value ->> 'operation', r.value ->> 'body', :now
    FROM jsonb_array_elements(:events) AS r
), woken AS (
    UPDATE callback SET due = :now, postponed = false
    FROM jsonb_array_elements(:keys) AS r
    WHERE callback.job = r.value::bigint AND postponed
    RETURNING job
)
SELECT DISTINCT job, NULL FROM woken
UNION ALL
SELECT job, reply FROM reply WHERE job IN (SELECT (r.value ->> 'job')::bigint FROM jsonb_array_elements(:events) AS r);

-- name: write_refusals
-- Events of refused requests; those that are there already are left out.
INSERT INTO event (id, type, connection, operation, body, at)
SELECT r.value ->> 'id', r.value ->> 'type', r.value ->> 'connection', r.value ->> 'operation', r.value ->> 'body', :now
FROM jsonb_array_elements(:rows) AS r
ON CONFLICT (id) DO NOTHING
RETURNING id;

-- name: write_deliveries
-- Events' ways to their targets, due at once; held ones are leased where their lane is open. Those that are there
-- already are left out.
WITH changed AS (
    INSERT INTO delivery (id, event, kind, lane, host, name, target, state, since, patience, expires, created_at, due,
                          leased)
    SELECT r.value ->> 'id', e.key, r.value ->> 'kind', r.value ->> 'lane', r.value ->> 'host', r.value ->> 'name',
           r.value ->> 'target', 'pending', :now, (r.value ->> 'patience')::double precision,
           :now + (r.value ->> 'patience')::double precision, :now,
           :now + CASE WHEN l.lane IS NULL THEN coalesce((r.value ->> 'hold')::double precision, 0.0) ELSE 0.0 END,
           r.value ->> 'hold' IS NOT NULL AND l.lane IS NULL
    FROM jsonb_array_elements(:rows) AS r
    JOIN event AS e ON e.id = r.value ->> 'event'
    LEFT JOIN lane AS l ON l.stage = 'announce' AND l.lane = r.value ->> 'lane' AND l.slots IS NOT NULL
    ON CONFLICT (id) DO NOTHING
    RETURNING key, id, leased, due
), told AS (
    INSERT INTO delivery_change (delivery) SELECT key FROM changed
)
SELECT id, leased, due FROM changed;

-- name: events_of_jobs
SELECT e.job, e.id, e.key, c.id
FROM jsonb_array_elements(:keys) AS r JOIN event AS e ON e.job = r.value::bigint JOIN job_card AS c ON c.key = e.job;

-- name: move_deliveries
-- What became of attempts, and they themselves, if each delivery's version is still the one that was tried.
WITH changed AS (
    UPDATE delivery
    SET version = delivery.version + 1,
        state = r.value ->> 'state',
        reason = r.value ->> 'reason',
        tries = tries + (r.value ->> 'spent')::boolean::integer,
        attempts = attempts + (r.value ->> 'spent')::boolean::integer,
        due = :now + (r.value ->> 'delay')::double precision,
        finished_at = CASE WHEN r.value ->> 'state' <> 'pending' THEN :now END,
        leased = false,
        lapses = 0
    FROM jsonb_array_elements(:rows) AS r
    WHERE delivery.id = r.value ->> 'id' AND delivery.version = (r.value ->> 'version')::integer
    RETURNING delivery.id, delivery.key, r.value -> 'attempt' AS attempt
), told AS (
    INSERT INTO delivery_change (delivery) SELECT key FROM changed
), tried AS (
    INSERT INTO attempt (delivery, number, at, duration, outcome, status, error, excerpt)
    SELECT c.key, (c.attempt ->> 0)::integer, (c.attempt ->> 1)::double precision,
           (c.attempt ->> 2)::double precision, c.attempt ->> 3, (c.attempt ->> 4)::integer, c.attempt ->> 5,
           c.attempt ->> 6
    FROM changed AS c
    WHERE c.attempt ->> 0 IS NOT NULL
)
SELECT id, key FROM changed;

-- name: redeliver
-- Ended deliveries start anew.
WITH changed AS (
    UPDATE delivery
    SET version = version + 1, state = 'pending', reason = NULL, tries = 0, since = :now, expires = :now + patience,
        due = :now, finished_at = NULL, leased = false, lapses = 0
    FROM jsonb_array_elements_text(:rows) AS r
    WHERE delivery.id = r.value AND state <> 'pending'
    RETURNING id, key
), told AS (
    INSERT INTO delivery_change (delivery) SELECT key FROM changed
)
SELECT id FROM changed;

-- name: jobs_of_deliveries
-- These deliveries, as far as they exist, each with its job, if it has one.
SELECT d.id, c.key, c.state
FROM delivery AS d JOIN event AS e ON e.key = d.event LEFT JOIN job_card AS c ON c.key = e.job
WHERE d.id IN (SELECT value FROM jsonb_array_elements_text(:rows));

-- name: keep_callbacks
-- Callbacks of jobs that exist; the same body for the same job a second time is left out.
INSERT INTO callback (id, job, digest, lane, request, due, leased)
SELECT r.value ->> 'id', j.key, r.value ->> 'digest', j.lane, r.value ->> 'request',
       :now + coalesce((r.value ->> 'hold')::double precision, 0.0), r.value ->> 'hold' IS NOT NULL
FROM jsonb_array_elements(:rows) AS r
JOIN job_card AS c ON c.id = r.value ->> 'job_id'
JOIN job AS j ON j.key = c.key
ON CONFLICT DO NOTHING
RETURNING id;

-- name: finish_callbacks
-- Of a handled callback only the digest stays.
UPDATE callback SET version = callback.version + 1, request = NULL, due = NULL, leased = false, postponed = false
FROM jsonb_array_elements(:rows) AS r
WHERE callback.id = r.value ->> 0 AND callback.version = (r.value ->> 1)::integer
RETURNING id, job;

-- name: consume_callbacks
-- The same, where the job's version was the guard.
UPDATE callback SET version = version + 1, request = NULL, due = NULL, leased = false, postponed = false
FROM jsonb_array_elements_text(:rows) AS r
WHERE callback.id = r.value;

-- name: postpone_callbacks
-- To wait for the job's submit, or for a while; not at all where the submit has ended meanwhile. A submit that ends at
-- this moment waits for this, or this for its end.
WITH held AS MATERIALIZED (
    SELECT k.key, c.state, r.value
    FROM jsonb_array_elements(:rows) AS r
    JOIN callback AS k ON k.id = r.value ->> 0
    JOIN job_card AS c ON c.key = k.job
    FOR SHARE OF c
)
UPDATE callback
SET version = callback.version + 1, leased = false, lapses = 0,
    postponed = h.state = 'submitting',
    due = CASE WHEN h.state = 'submitting' THEN :now + (h.value ->> 2)::double precision ELSE :now END
FROM held AS h
WHERE callback.key = h.key AND callback.version = (h.value ->> 1)::integer
RETURNING id, postponed;

-- name: wake_callbacks
-- Callbacks that waited for these jobs' submits become due.
UPDATE callback SET due = :now, postponed = false
FROM jsonb_array_elements(:keys) AS r
WHERE callback.job = r.value::bigint AND postponed
RETURNING job;

-- name: lanes
-- How these lanes fare, those of them that do not fare well: `:rows` is of [stage, lane]. Nobody else marks them until
-- the end of this transaction.
SELECT l.stage, l.lane, l.failures, l.closed_until, l.slots
FROM jsonb_array_elements(:rows) AS r JOIN lane AS l ON l.stage = r.value ->> 0 AND l.lane = r.value ->> 1
FOR UPDATE OF l;

-- name: begin_lanes
-- A place for how these lanes fare, where there is none yet; one that somebody is making at this moment is waited for.
INSERT INTO lane (stage, lane, failures)
SELECT r.value ->> 0, r.value ->> 1, 0 FROM jsonb_array_elements(:rows) AS r
ON CONFLICT DO NOTHING;

-- name: keep_lanes
INSERT INTO lane (stage, lane, failures, closed_until, slots)
SELECT r.value ->> 0, r.value ->> 1, (r.value ->> 2)::integer, (r.value ->> 3)::double precision,
       (r.value ->> 4)::integer
FROM jsonb_array_elements(:rows) AS r
ON CONFLICT (stage, lane) DO UPDATE
SET failures = excluded.failures, closed_until = excluded.closed_until, slots = excluded.slots;

-- name: probe_lanes
-- Closed lanes whose one probe goes out now, under a lease until then; not those where another's is out meanwhile, or
-- is about to be.
WITH free AS MATERIALIZED (
    SELECT l.stage, l.lane
    FROM jsonb_array_elements(:rows) AS r JOIN lane AS l ON l.stage = r.value ->> 0 AND l.lane = r.value ->> 1
    WHERE l.slots IN (0, 1) AND l.closed_until <= :now
    FOR UPDATE OF l SKIP LOCKED
)
UPDATE lane SET closed_until = :until, slots = 1
FROM free AS f
WHERE lane.stage = f.stage AND lane.lane = f.lane
RETURNING lane.lane;

-- name: forget_lanes
-- Lanes that fare well again.
DELETE FROM lane WHERE (stage, lane) IN (SELECT r.value ->> 0, r.value ->> 1 FROM jsonb_array_elements(:rows) AS r);

-- name: forget_open_lanes
-- The same, unless they have been closed since.
DELETE FROM lane
WHERE slots > 1 AND (stage, lane) IN (SELECT r.value ->> 0, r.value ->> 1 FROM jsonb_array_elements(:rows) AS r);

-- name: forget_idle_lanes
-- Receivers' lanes that may be tried and in which nothing waits: hosts and reply queues come and go. Not those that
-- somebody marks at this moment.
WITH idle AS MATERIALIZED (
    SELECT l.lane FROM lane AS l
    WHERE l.stage = 'announce' AND (l.closed_until IS NULL OR l.closed_until <= :now)
      AND NOT EXISTS (SELECT 1 FROM delivery AS d WHERE d.lane = l.lane AND d.due IS NOT NULL)
    LIMIT :batch
    FOR UPDATE OF l SKIP LOCKED
)
DELETE FROM lane USING idle AS i WHERE lane.stage = 'announce' AND lane.lane = i.lane
RETURNING lane.lane;

-- name: {table}_heads
-- Lanes in which rows wait, by skip scan: when the first is due, and how the lane fares if not well.
WITH RECURSIVE waiting (lane) AS (
    SELECT (SELECT t.lane FROM {table} AS t WHERE t.due IS NOT NULL ORDER BY t.lane LIMIT 1)
    UNION ALL
    SELECT (SELECT t.lane FROM {table} AS t
            WHERE t.due IS NOT NULL AND t.lane > waiting.lane ORDER BY t.lane LIMIT 1)
    FROM waiting WHERE waiting.lane IS NOT NULL
)
SELECT w.lane,
       (SELECT t.due FROM {table} AS t
        WHERE t.due IS NOT NULL AND t.lane = w.lane ORDER BY t.due LIMIT 1),
       l.failures, l.closed_until, l.slots
FROM waiting AS w LEFT JOIN lane AS l ON l.stage = :stage AND l.lane = w.lane
WHERE w.lane IS NOT NULL;

-- name: {table}_due
-- The first due rows of each of these lanes, at most `:most` of each; not those that another claim takes now.
SELECT t.key, t.lane, t.due
FROM jsonb_array_elements_text(:lanes) AS w
CROSS JOIN LATERAL (
    SELECT k.key, k.lane, k.due FROM {table} AS k
    WHERE k.lane = w.value AND k.due <= :now AND k.due IS NOT NULL ORDER BY k.due LIMIT :most
    FOR UPDATE SKIP LOCKED) AS t;

-- name: job_overdue
-- The same, of jobs whose time is up: they pass where the others wait.
SELECT t.key, t.lane, t.due
FROM jsonb_array_elements_text(:lanes) AS w
CROSS JOIN LATERAL (
    SELECT k.key, k.lane, k.due FROM job AS k
    WHERE k.lane = w.value AND k.deadline <= :now AND k.due <= :now AND k.due IS NOT NULL
    ORDER BY k.deadline LIMIT :most
    FOR UPDATE SKIP LOCKED) AS t;

-- name: {table}_lease
-- To the caller, until then. One that is leased still is one that its holder let lapse.
UPDATE {table} SET version = version + 1, lapses = lapses + leased::integer, leased = true, due = :until
WHERE key IN (SELECT value::bigint FROM jsonb_array_elements(:keys));

-- name: hold_places
-- Lanes in which jobs wait for a place. Nobody else gives places there until the end of this transaction.
SELECT r.value FROM jsonb_array_elements_text(:lanes) AS r
WHERE CASE WHEN EXISTS (SELECT 1 FROM job AS w
                        WHERE w.lane = r.value AND w.waits_from <= :now AND w.waits_from IS NOT NULL
                          AND w.due IS NOT NULL)
           THEN pg_try_advisory_xact_lock(hashtextextended('relay places ' || r.value, 0)) ELSE false END;

-- name: give_places
-- A lane's free places, of `:most`, to those who have waited longest. A place is taken until its job has ended. They are
-- chosen once and apart: a plan that looks again for each row finds others each time, past the limit.
WITH given AS MATERIALIZED (
    SELECT w.key FROM job AS w
    WHERE w.lane = :lane AND w.waits_from <= :now AND w.waits_from IS NOT NULL AND w.due IS NOT NULL AND NOT w.leased
    ORDER BY w.waits_from
    LIMIT greatest(0, :most::bigint - (SELECT count(*) FROM job AS t
                                       WHERE t.lane = :lane AND t.limited AND t.waits_from IS NULL
                                         AND t.due IS NOT NULL))
    FOR UPDATE SKIP LOCKED)
UPDATE job SET waits_from = NULL, due = :now FROM given WHERE job.key = given.key;

-- name: free_jobs
-- Jobs that wait for a place where there is no limit any more.
WITH freed AS MATERIALIZED (
    SELECT w.key FROM job AS w
    WHERE w.waits_from IS NOT NULL AND w.due IS NOT NULL AND NOT w.leased
      AND w.lane NOT IN (SELECT value FROM jsonb_array_elements_text(:lanes))
    LIMIT :batch
    FOR UPDATE SKIP LOCKED)
UPDATE job SET waits_from = NULL, due = least(greatest(waits_from, :now), deadline)
FROM freed WHERE job.key = freed.key
RETURNING job.key;

-- name: {table}_next
-- When the next row of these lanes is due.
SELECT min((SELECT t.due FROM {table} AS t WHERE t.due IS NOT NULL AND t.lane = w.value ORDER BY t.due LIMIT 1))
FROM jsonb_array_elements_text(:lanes) AS w;

-- name: {table}_oldest
-- When the row that has waited longest was due.
WITH RECURSIVE waiting (lane) AS (
    SELECT (SELECT t.lane FROM {table} AS t WHERE t.due IS NOT NULL ORDER BY t.lane LIMIT 1)
    UNION ALL
    SELECT (SELECT t.lane FROM {table} AS t
            WHERE t.due IS NOT NULL AND t.lane > waiting.lane ORDER BY t.lane LIMIT 1)
    FROM waiting WHERE waiting.lane IS NOT NULL
)
SELECT min((SELECT t.due FROM {table} AS t
            WHERE t.due IS NOT NULL AND t.lane = w.lane ORDER BY t.due LIMIT 1))
FROM waiting AS w WHERE w.lane IS NOT NULL;

-- name: jobs_by_id
-- Whole jobs.
SELECT j.key, c.id, j.version, c.state, j.lapses, j.deadline, c.accepted_at, s.spec, p.picture, o.result
FROM jsonb_array_elements_text(:rows) AS r
JOIN job_card AS c ON c.id = r.value
JOIN job AS j ON j.key = c.key
JOIN job_spec AS s ON s.job = j.key
JOIN job_picture AS p ON p.job = j.key
LEFT JOIN job_result AS o ON o.job = j.key;

-- name: jobs_by_key
-- Whole jobs.
SELECT j.key, c.id, j.version, c.state, j.lapses, j.deadline, c.accepted_at, s.spec, p.picture, o.result
FROM jsonb_array_elements(:keys) AS r
JOIN job_card AS c ON c.key = r.value::bigint
JOIN job AS j ON j.key = c.key
JOIN job_spec AS s ON s.job = j.key
JOIN job_picture AS p ON p.job = j.key
LEFT JOIN job_result AS o ON o.job = j.key;

-- name: callbacks_by_key
SELECT k.key, k.id, k.version, c.id, k.lane, k.lapses, k.request
FROM jsonb_array_elements(:keys) AS r
JOIN callback AS k ON k.key = r.value::bigint
JOIN job_card AS c ON c.key = k.job;

-- name: deliveries_by_key
-- Whole deliveries, with their events.
SELECT d.key, d.id, d.version, d.kind, d.lane, d.host, d.name, d.target, d.state, d.reason, d.tries, d.attempts,
       d.since, d.patience, d.created_at, d.due, d.finished_at, e.id, e.type, c.id, e.connection, e.operation, e.body
FROM jsonb_array_elements(:keys) AS r
JOIN delivery AS d ON d.key = r.value::bigint
JOIN event AS e ON e.key = d.event
LEFT JOIN job_card AS c ON c.key = e.job;

-- name: key_by_request
SELECT key FROM job_card WHERE request_id = :request_id;

-- name: key_of_delivery
SELECT key FROM delivery WHERE id = :id;

-- name: history
SELECT h.at, h.what, h.state, h.detail
FROM history AS h JOIN job_card AS c ON c.key = h.job
WHERE c.id = :id ORDER BY h.key;

-- name: event
SELECT e.id, e.type, c.id, e.connection, e.operation, e.body
FROM event AS e LEFT JOIN job_card AS c ON c.key = e.job
WHERE e.id = :id;

-- name: attempts
SELECT a.number, a.at, a.duration, a.outcome, a.status, a.error, a.excerpt
FROM attempt AS a JOIN delivery AS d ON d.key = a.delivery
WHERE d.id = :id ORDER BY a.key;

-- name: jobs
-- A page of jobs, newest first, without their results.
SELECT c.key, c.id, j.version, c.state, j.lapses, j.deadline, c.accepted_at, s.spec, p.picture, NULL
FROM job_card AS c
JOIN job AS j ON j.key = c.key JOIN job_spec AS s ON s.job = c.key JOIN job_picture AS p ON p.job = c.key
WHERE {where}
ORDER BY c.accepted_at DESC, c.key DESC
LIMIT :limit;

-- name: jobs:count
SELECT count(*)
FROM job_card AS c JOIN job AS j ON j.key = c.key JOIN job_spec AS s ON s.job = c.key
WHERE {where};

-- name: jobs.states
c.state IN (SELECT value FROM jsonb_array_elements_text(:states))

-- name: jobs.besides
c.operation <> :besides

-- name: jobs.state
c.state = :state

-- name: jobs.connection
c.connection = :connection

-- name: jobs.vendor
c.vendor = :vendor

-- name: jobs.operation
c.operation = :operation

-- name: jobs.request_id
c.request_id = :request_id

-- name: jobs.vendor_job_id
c.key IN (SELECT key FROM job_card WHERE vendor_job_id = :vendor_job_id
          UNION SELECT job FROM vendor_job WHERE vendor_job_id = :vendor_job_id)

-- name: jobs.correlation_id
c.correlation_id = :correlation_id

-- name: jobs.error_code
c.error_code = :error_code

-- name: jobs.metadata
-- Every pair asked for is there; a value that is no text counts as its JSON.
NOT EXISTS (
    SELECT 1 FROM jsonb_each_text(:metadata) AS m
    WHERE NOT EXISTS (
        SELECT 1 FROM jsonb_each(s.metadata::jsonb) AS v
        WHERE v.key = m.key AND coalesce(v.value #>> '{}', 'null') = m.value))

-- name: jobs.since
c.accepted_at >= :since

-- name: jobs.until
c.accepted_at < :until

-- name: jobs.connections
c.connection IN (SELECT value FROM jsonb_array_elements_text(:connections))

-- name: jobs.cursor
(c.accepted_at, c.key) < (:cursor_at, :cursor_key)

-- name: deliveries
-- A page of deliveries, newest first, without their targets and bodies.
SELECT d.key, d.id, d.version, d.kind, d.lane, d.host, d.name, '', d.state, d.reason, d.tries, d.attempts,
       d.since, d.patience, d.created_at, d.due, d.finished_at, e.id, e.type, c.id, e.connection, e.operation, ''
FROM delivery AS d JOIN event AS e ON e.key = d.event LEFT JOIN job_card AS c ON c.key = e.job
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
d.kind = 'subscription' AND d.lane = 'subscription:' || :subscription::text

-- name: deliveries.job_id
d.event = (SELECT e2.key FROM event AS e2 JOIN job_card AS c2 ON c2.key = e2.job WHERE c2.id = :job_id)

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
e.connection IN (SELECT value FROM jsonb_array_elements_text(:connections))

-- name: deliveries.cursor
(d.created_at, d.key) < (:cursor_at, :cursor_key)

-- name: count_jobs
SELECT state, connection, count(*) FROM job_card GROUP BY state, connection;

-- name: count_deliveries
SELECT state, count(*) FROM delivery GROUP BY state;

-- name: oldest_undelivered
SELECT min(created_at) FROM delivery WHERE state = 'pending';

-- name: ping
SELECT 1;

-- name: ended_jobs
-- Jobs that ended long ago and have told it to everybody. What a deleted subscription has not got waits for nobody.
SELECT c.key FROM job_card AS c
WHERE c.ended <= :before
  AND NOT EXISTS (SELECT 1 FROM event AS e JOIN delivery AS d ON d.event = e.key
                  WHERE e.job = c.key AND d.state <> 'delivered'
                    AND (d.due IS NOT NULL OR d.kind <> 'subscription'
                         OR EXISTS (SELECT 1 FROM subscription AS s WHERE s.id = substr(d.lane, 14))))
ORDER BY c.ended LIMIT :batch;

-- name: ended_refusals
-- The same of refused requests' events.
SELECT e.key FROM event AS e
WHERE e.job IS NULL AND e.at <= :before
  AND NOT EXISTS (SELECT 1 FROM delivery AS d WHERE d.event = e.key AND d.state <> 'delivered')
ORDER BY e.at LIMIT :batch;

-- name: droppable_jobs
-- Which of these still may go: a delivery may have been asked for again meanwhile, or another may be dropping them.
WITH held AS MATERIALIZED (
    SELECT j.key FROM job AS j
    WHERE j.key IN (SELECT value::bigint FROM jsonb_array_elements(:keys))
    FOR UPDATE SKIP LOCKED
), told AS MATERIALIZED (
    SELECT e.job, d.state, d.due, d.kind, d.lane
    FROM held AS h JOIN event AS e ON e.job = h.key JOIN delivery AS d ON d.event = e.key
    FOR UPDATE OF d
)
SELECT h.key FROM held AS h
WHERE NOT EXISTS (SELECT 1 FROM told AS t
                  WHERE t.job = h.key AND t.state <> 'delivered'
                    AND (t.due IS NOT NULL OR t.kind <> 'subscription'
                         OR EXISTS (SELECT 1 FROM subscription AS s WHERE s.id = substr(t.lane, 14))));

-- name: droppable_refusals
WITH held AS MATERIALIZED (
    SELECT e.key FROM event AS e
    WHERE e.key IN (SELECT value::bigint FROM jsonb_array_elements(:keys))
    FOR UPDATE SKIP LOCKED
), told AS MATERIALIZED (
    SELECT d.event, d.state FROM held AS h JOIN delivery AS d ON d.event = h.key
    FOR UPDATE OF d
)
SELECT h.key FROM held AS h
WHERE NOT EXISTS (SELECT 1 FROM told AS t WHERE t.event = h.key AND t.state <> 'delivered');

-- name: drop_attempts
DELETE FROM attempt WHERE delivery IN (SELECT key FROM delivery WHERE event IN (SELECT value::bigint FROM jsonb_array_elements(:keys)));

-- name: drop_deliveries
DELETE FROM delivery WHERE event IN (SELECT value::bigint FROM jsonb_array_elements(:keys));

-- name: drop_events
DELETE FROM event WHERE key IN (SELECT value::bigint FROM jsonb_array_elements(:keys));

-- name: drop_history
DELETE FROM history WHERE job IN (SELECT value::bigint FROM jsonb_array_elements(:keys));

-- name: drop_callbacks
DELETE FROM callback WHERE job IN (SELECT value::bigint FROM jsonb_array_elements(:keys));

-- name: drop_replies
DELETE FROM reply WHERE job IN (SELECT value::bigint FROM jsonb_array_elements(:keys));

-- name: drop_vendor_jobs
DELETE FROM vendor_job WHERE job IN (SELECT value::bigint FROM jsonb_array_elements(:keys));

-- name: drop_results
DELETE FROM job_result WHERE job IN (SELECT value::bigint FROM jsonb_array_elements(:keys));

-- name: drop_specs
DELETE FROM job_spec WHERE job IN (SELECT value::bigint FROM jsonb_array_elements(:keys));

-- name: drop_jobs
WITH dropped AS (
    DELETE FROM job WHERE key IN (SELECT value::bigint FROM jsonb_array_elements(:keys))
), unpictured AS (
    DELETE FROM job_picture WHERE job IN (SELECT value::bigint FROM jsonb_array_elements(:keys))
)
DELETE FROM job_card WHERE key IN (SELECT value::bigint FROM jsonb_array_elements(:keys));

-- name: give_up_deliveries
-- Deliveries whose patience ended while their lane was closed: nobody will try them, so nobody else would say so. Those
-- of a paused subscription wait.
WITH hopeless AS MATERIALIZED (
    SELECT d.key FROM lane AS l JOIN delivery AS d ON d.lane = l.lane
    WHERE l.stage = 'announce' AND l.slots IS NOT NULL
      AND d.expires <= :now AND d.expires IS NOT NULL AND d.due IS NOT NULL AND d.due <= :now
      AND NOT EXISTS (SELECT 1 FROM subscription AS s
                      WHERE d.kind = 'subscription' AND s.id = substr(d.lane, 14) AND s.state = 'paused')
    LIMIT :batch
    FOR UPDATE OF d SKIP LOCKED
), changed AS (
    UPDATE delivery
    SET version = version + 1, state = 'exhausted', due = NULL, leased = false, finished_at = :now,
        reason = 'its time ran out while its target was down'
    FROM hopeless WHERE delivery.key = hopeless.key
    RETURNING delivery.id, delivery.key
), told AS (
    INSERT INTO delivery_change (delivery) SELECT key FROM changed
)
SELECT id FROM changed;

-- name: begin
-- A transaction's first words: the store's clock, which is the database's where none is `:given`, and its id, if it is to be `:known` what became of it.
SELECT coalesce(:given::double precision, extract(epoch FROM clock_timestamp())::double precision),
       CASE WHEN :known::boolean THEN pg_current_xact_id()::text END;

-- name: fate
-- What became of a transaction.
SELECT pg_xact_status(:xid::text::xid8);

-- name: beat
-- This relay's sign of life; how many others gave one since then.
WITH beat AS (
    INSERT INTO replica (id, seen) VALUES (:id, :now) ON CONFLICT (id) DO UPDATE SET seen = excluded.seen
), gone AS (
    DELETE FROM replica WHERE id <> :id AND seen < :forgotten
)
SELECT count(*) FROM replica WHERE id <> :id AND seen >= :since;

-- name: leave
-- This relay ends.
DELETE FROM replica WHERE id = :id;
