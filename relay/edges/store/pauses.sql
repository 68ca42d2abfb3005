-- Pausing connections.

-- name: keep_pause
INSERT INTO pause (connection, paused_by, paused_at) VALUES (:connection, :by, :now)
ON CONFLICT DO NOTHING
RETURNING connection;

-- name: drop_pause
DELETE FROM pause WHERE connection = :connection
RETURNING connection;

-- name: connections_now
-- Connections that do not fare well: how their lanes stand, and who paused them.
SELECT l.lane, l.slots, l.closed_until, p.paused_by, p.paused_at
FROM lane AS l LEFT JOIN pause AS p ON p.connection = l.lane
WHERE l.stage = 'work' AND l.slots IS NOT NULL;
