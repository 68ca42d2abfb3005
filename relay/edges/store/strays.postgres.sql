-- Callbacks that wait for their job to be known.

-- name: keep_stray
INSERT INTO stray (id, connection, vendor_job_id, digest, request, came_at)
VALUES (:id, :connection, :vendor_job_id, :digest, :request, :now)
ON CONFLICT DO NOTHING
RETURNING id;

-- name: strays_matched
-- Whether any of them has a job by now.
SELECT 1
FROM stray AS s
CROSS JOIN LATERAL (SELECT key FROM job_card WHERE vendor_job_id = s.vendor_job_id
                    UNION SELECT job FROM vendor_job WHERE vendor_job_id = s.vendor_job_id) AS m
JOIN job_card AS c ON c.key = m.key AND c.connection = s.connection
JOIN job AS j ON j.key = m.key
LIMIT 1;

-- name: known_strays
-- Those whose job is known by now, each with every job that follows the vendor's. Nobody else hands them over.
SELECT s.key, c.key, c.id
FROM stray AS s
CROSS JOIN LATERAL (SELECT key FROM job_card WHERE vendor_job_id = s.vendor_job_id
                    UNION SELECT job FROM vendor_job WHERE vendor_job_id = s.vendor_job_id) AS m
JOIN job_card AS c ON c.key = m.key AND c.connection = s.connection
FOR UPDATE OF s SKIP LOCKED;

-- name: match_strays
-- These become callbacks of these jobs: `:rows` is of [stray, job].
INSERT INTO callback (id, job, digest, lane, request, due, leased)
SELECT s.id || '_' || j.key, j.key, s.digest, j.lane, s.request, :now, false
FROM jsonb_array_elements(:rows) AS r
JOIN stray AS s ON s.key = (r.value ->> 0)::bigint
JOIN job AS j ON j.key = (r.value ->> 1)::bigint
ON CONFLICT DO NOTHING
RETURNING job;

-- name: drop_strays
DELETE FROM stray WHERE key IN (SELECT value::bigint FROM jsonb_array_elements(:keys));

-- name: drop_old_strays
DELETE FROM stray WHERE came_at < :before
RETURNING id, connection, vendor_job_id;

-- name: strays
-- A page of them, newest first.
SELECT s.key, s.id, s.connection, s.vendor_job_id, s.came_at
FROM stray AS s
WHERE {where}
ORDER BY s.came_at DESC, s.key DESC
LIMIT :limit;

-- name: strays.connection
s.connection = :connection

-- name: strays.connections
s.connection IN (SELECT value FROM jsonb_array_elements_text(:connections))

-- name: strays.cursor
(s.came_at, s.key) < (:cursor_at, :cursor_key)
