-- What operators did.

-- name: keep_acts
-- Of one that is there already only the detail is replaced.
INSERT INTO act (id, at, done_by, what, target, connections, detail)
SELECT r.value ->> 'id', :now, r.value ->> 'by', r.value ->> 'what', r.value ->> 'target',
       (r.value ->> 'connections')::jsonb, r.value ->> 'detail'
FROM jsonb_array_elements(:rows) AS r
WHERE true
ON CONFLICT (id) DO UPDATE SET detail = excluded.detail;

-- name: drop_old_acts
WITH old AS MATERIALIZED (
    SELECT key FROM act WHERE at < :before ORDER BY at LIMIT :batch FOR UPDATE SKIP LOCKED)
DELETE FROM act USING old WHERE act.key = old.key
RETURNING act.key;

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
a.connections <@ :connections

-- name: acts.cursor
(a.at, a.key) < (:cursor_at, :cursor_key)
