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
CROSS JOIN job AS j ON j.connection = s.connection
    AND j.key IN (SELECT key FROM job WHERE vendor_job_id = s.vendor_job_id
                  UNION SELECT job FROM vendor_job WHERE vendor_job_id = s.vendor_job_id)
LIMIT 1;

-- name: known_strays
-- Those whose job is known by now, each with every job that follows the vendor's.
SELECT s.key, j.key, j.id
FROM stray AS s
CROSS JOIN job AS j ON j.connection = s.connection
    AND j.key IN (SELECT key FROM job WHERE vendor_job_id = s.vendor_job_id
                  UNION SELECT job FROM vendor_job WHERE vendor_job_id = s.vendor_job_id);

-- name: match_strays
-- These become callbacks of these jobs: `:rows` is of [stray, job].
INSERT INTO callback (id, job, digest, lane, request, due, leased)
SELECT s.id || '_' || j.key, j.key, s.digest, j.lane, s.request, :now, 0
FROM jsonb_each(:rows) AS r
CROSS JOIN stray AS s ON s.key = r.value ->> 0
JOIN job AS j ON j.key = r.value ->> 1
WHERE true
ON CONFLICT DO NOTHING
RETURNING job;

-- name: drop_strays
DELETE FROM stray WHERE key IN (SELECT value FROM json_each(:keys));

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
s.connection IN (SELECT value FROM json_each(:connections))

-- name: strays.cursor
(s.came_at, s.key) < (:cursor_at, :cursor_key)
