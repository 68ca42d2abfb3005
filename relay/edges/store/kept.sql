-- What the store asks either engine about what credentials have to keep.

-- name: borrow_kept
-- The row, made at first, unless somebody else holds it.
INSERT INTO kept (connection, holder, held_until) VALUES (:connection, :holder, :until)
ON CONFLICT (connection) DO UPDATE SET holder = :holder, held_until = :until
WHERE kept.holder IS NULL OR kept.holder = :holder OR kept.held_until <= :now
RETURNING sealed;

-- name: keep_kept
-- New values, if the row is still the holder's.
UPDATE kept SET sealed = :sealed WHERE connection = :connection AND holder = :holder RETURNING connection;

-- name: release_kept
UPDATE kept SET holder = NULL, held_until = NULL WHERE connection = :connection AND holder = :holder;

-- name: void_kept
-- Whoever held them is gone.
UPDATE kept SET holder = NULL, held_until = NULL WHERE holder IS NOT NULL;
