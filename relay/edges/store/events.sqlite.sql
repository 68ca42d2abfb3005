-- Events in the order of their keys, for those who follow them.

-- name: newest_event
-- The greatest key that any event has, or had before it was dropped.
SELECT max(coalesce((SELECT max(key) FROM event), 0), coalesce((SELECT max(key) FROM event_dropped), 0));

-- name: event_writers
-- Whoever writes events now, and may have a key of which nobody knows: here nobody, for one writes after the other.
SELECT NULL WHERE false;

-- name: events_after
-- The next events up to a key, as many as fit into so many bytes, but one in any case.
SELECT f.key, f.id, f.type, j.id, f.connection, f.operation, f.body
FROM (
    SELECT e.*, sum(octet_length(e.body)) OVER (ORDER BY e.key) - octet_length(e.body) AS bytes_before
    FROM (SELECT * FROM event WHERE key > :after AND key <= :upto ORDER BY key LIMIT :limit) AS e
) AS f LEFT JOIN job AS j ON j.key = f.job
WHERE f.bytes_before < :bytes
ORDER BY f.key;

-- name: newest_dropped
SELECT coalesce(max(key), 0) FROM event_dropped;

-- name: note_dropped
INSERT INTO event_dropped (key) VALUES (:key) ON CONFLICT DO NOTHING;

-- name: forget_dropped
DELETE FROM event_dropped WHERE key < :key;
