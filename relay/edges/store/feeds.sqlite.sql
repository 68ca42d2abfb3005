-- Events, and deliveries as they change, in the order of their keys, for those who follow them.

-- name: newest_events
-- The greatest key that any event has, or had before it was dropped.
SELECT max(coalesce((SELECT max(key) FROM event), 0), coalesce((SELECT max(key) FROM event_dropped), 0));

-- name: newest_deliveries
-- The greatest key of a change; the newest is never dropped.
SELECT coalesce(max(key), 0) FROM delivery_change;

-- name: feed_writers
-- Whoever writes to this table now, and may have a key of which nobody knows: here nobody, for one writes after the
-- other.
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

-- name: changes_after
SELECT key, delivery FROM delivery_change WHERE key > :after AND key <= :upto ORDER BY key LIMIT :limit;

-- name: deliveries_of_changes
-- These deliveries as they are listed.
SELECT d.key, d.id, d.version, d.kind, d.lane, d.host, d.name, '', d.state, d.reason, d.tries, d.attempts,
       d.since, d.patience, d.created_at, d.due, d.finished_at, e.id, e.type, j.id, e.connection, e.operation, ''
FROM json_each(:keys) AS r
CROSS JOIN delivery AS d ON d.key = r.value
JOIN event AS e ON e.key = d.event
LEFT JOIN job AS j ON j.key = e.job;

-- name: changed_later
-- Those of these deliveries that have changed once more behind a key.
SELECT DISTINCT delivery FROM delivery_change
WHERE key > :after AND delivery IN (SELECT value FROM json_each(:keys));

-- name: dropped_events
SELECT coalesce(max(key), 0) FROM event_dropped;

-- name: dropped_deliveries
-- Changes are dropped in their order.
SELECT coalesce(min(key) - 1, 0) FROM delivery_change;

-- name: note_dropped
INSERT INTO event_dropped (key) VALUES (:key) ON CONFLICT DO NOTHING;

-- name: forget_dropped
-- All but the greatest: jobs do not end in the order of their events' keys.
DELETE FROM event_dropped WHERE key < (SELECT max(key) FROM event_dropped);

-- name: changes_kept
SELECT coalesce((SELECT min(key) FROM delivery_change), 0), coalesce((SELECT max(key) FROM delivery_change), 0);

-- name: drop_changes
DELETE FROM delivery_change WHERE key < :below;
