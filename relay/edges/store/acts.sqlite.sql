-- What operators did.

-- name: keep_acts
-- Of one that is there already only the detail is replaced.
INSERT INTO act (id, at, done_by, what, target, connections, detail)
SELECT r.value ->> 'id', :now, r.value ->> 'by', r.value ->> 'what', r.value ->> 'target', r.value ->> 'connections',
       r.value ->> 'detail'
FROM jsonb_each(:rows) AS r
WHERE true
ON CONFLICT (id) DO UPDATE SET detail = excluded.detail;

-- name: drop_old_acts
DELETE FROM act WHERE key IN (SELECT key FROM act WHERE at < :before ORDER BY at LIMIT :batch)
RETURNING key;

-- name: acts
-- A page of them, newest first.
SELECT a.key, a.id, a.at, a.done_by, a.what, a.target, a.connections, a.detail
FROM act AS a
WHERE {where}
ORDER BY a.at DESC, a.key DESC
LIMIT :limit;

-- name: acts.by
a.done_by = :by

-- name: acts.what
a.what = :what

-- name: acts.target
a.target = :target

-- name: acts.since
a.at >= :since

-- name: acts.until
a.at < :until

-- name: acts.connections
-- What concerned any connection is for those who see them all.
a.connections IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM json_each(a.connections) AS c WHERE c.value NOT IN (SELECT value FROM json_each(:connections)))

-- name: acts.cursor
(a.at, a.key) < (:cursor_at, :cursor_key)
