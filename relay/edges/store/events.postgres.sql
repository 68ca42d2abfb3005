-- Events in the order of their keys, for those who follow them.

-- name: newest_event
-- The greatest key that any event has, or had before it was dropped.
SELECT greatest((SELECT max(key) FROM event), (SELECT max(key) FROM event_dropped), 0);

-- name: event_writers
-- Whoever writes events now, and may have a key of which nobody knows. To insert a row is to hold this lock from before
-- the row gets its key until after the commit can be seen.
SELECT DISTINCT virtualtransaction
FROM pg_locks
WHERE locktype = 'relation' AND relation = 'event'::regclass AND mode = 'RowExclusiveLock' AND granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database());

-- name: events_after
-- The next events up to a key, as many as fit into so many bytes, but one in any case.
SELECT f.key, f.id, f.type, c.id, f.connection, f.operation, f.body
FROM (
    SELECT e.*, sum(octet_length(e.body)) OVER (ORDER BY e.key) - octet_length(e.body) AS bytes_before
    FROM (SELECT * FROM event WHERE key > :after AND key <= :upto ORDER BY key LIMIT :limit) AS e
) AS f LEFT JOIN job_card AS c ON c.key = f.job
WHERE f.bytes_before < :bytes
ORDER BY f.key;

-- name: newest_dropped
SELECT coalesce(max(key), 0) FROM event_dropped;

-- name: note_dropped
INSERT INTO event_dropped (key) VALUES (:key) ON CONFLICT DO NOTHING;

-- name: forget_dropped
-- None that another is about to forget: nobody waits for this.
DELETE FROM event_dropped
WHERE key IN (SELECT d.key FROM event_dropped AS d WHERE d.key < :key FOR UPDATE SKIP LOCKED);
