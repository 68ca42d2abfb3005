-- What the store asks of PostgreSQL about subscriptions; `:now` and `:rows` are as in postgres.sql.

-- name: subscriptions
SELECT id, name, version, sealed, state, reason, failures, failing, failing_since, last_error, last_act,
       created_at, updated_at
FROM subscription ORDER BY key;

-- name: subscriptions_edition
SELECT coalesce(max(number), 0) FROM subscription_edition;

-- name: new_edition
INSERT INTO subscription_edition (one, number) VALUES (1, 1)
ON CONFLICT (one) DO UPDATE SET number = subscription_edition.number + 1;

-- name: subscription_named
-- Who else has this name.
SELECT id FROM subscription WHERE name = :name AND id <> :id;

-- name: new_subscription
INSERT INTO subscription (id, name, sealed, state, last_act, created_at, updated_at)
VALUES (:id, :name, :sealed, :state, :last_act, :now, :now)
ON CONFLICT DO NOTHING
RETURNING id;

-- name: change_subscription
-- If its version is still the one that this was made from; who was switched on again starts to count anew.
UPDATE subscription
SET version = version + 1, name = :name, sealed = :sealed, state = :state::text, reason = :reason,
    last_act = :last_act,
    failures = CASE WHEN :state::text = 'active' AND state <> 'active' THEN 0 ELSE failures END, updated_at = :now
WHERE id = :id AND version = :version
RETURNING id;

-- name: drop_subscription
DELETE FROM subscription WHERE id = :id AND sealed IS NOT NULL RETURNING id;

-- name: know_subscriptions
-- Those of the settings that are not known yet.
INSERT INTO subscription (id, created_at, updated_at)
SELECT r.value, :now, :now FROM jsonb_array_elements_text(:rows) AS r
ON CONFLICT DO NOTHING
RETURNING id;

-- name: subscriptions_faring
-- How these fare. Nobody else marks them until the end of this transaction.
SELECT s.id, s.state, s.reason, s.failures, s.failing, s.failing_since, s.last_error
FROM jsonb_array_elements_text(:rows) AS r JOIN subscription AS s ON s.id = r.value
FOR UPDATE OF s;

-- name: mark_subscriptions
-- A change of state raises the version.
UPDATE subscription
SET version = version + (state <> r.value ->> 'state')::integer, state = r.value ->> 'state',
    reason = r.value ->> 'reason', failures = (r.value ->> 'failures')::integer,
    failing = (r.value ->> 'failing')::boolean, failing_since = (r.value ->> 'failing_since')::double precision,
    last_error = r.value ->> 'last_error',
    updated_at = CASE WHEN state <> r.value ->> 'state' THEN :now ELSE updated_at END
FROM jsonb_array_elements(:rows) AS r
WHERE subscription.id = r.value ->> 'id';

-- name: end_deliveries
-- What waits in a lane ends as disabled; what is being tried ends by itself.
WITH changed AS (
    UPDATE delivery
    SET version = version + 1, state = 'disabled', reason = :reason, due = NULL, finished_at = :now
    WHERE key IN (SELECT key FROM delivery WHERE lane = :lane AND due IS NOT NULL AND NOT leased FOR UPDATE SKIP LOCKED)
    RETURNING key
)
INSERT INTO delivery_change (delivery) SELECT key FROM changed;

-- name: renew_patience
-- What waits in a lane has its whole time anew.
UPDATE delivery SET since = :now, expires = :now + patience
WHERE key IN (SELECT key FROM delivery WHERE lane = :lane AND due IS NOT NULL AND NOT leased FOR UPDATE SKIP LOCKED);

-- name: waiting
-- How many deliveries are pending in each of these lanes.
SELECT r.value, (SELECT count(*) FROM delivery AS d WHERE d.lane = r.value AND d.due IS NOT NULL)
FROM jsonb_array_elements_text(:rows) AS r;

-- name: lanes_now
-- Those of these lanes that deliveries wait for.
SELECT l.lane, l.slots, l.closed_until
FROM jsonb_array_elements_text(:rows) AS r JOIN lane AS l ON l.stage = 'announce' AND l.lane = r.value
WHERE l.slots IS NOT NULL;

-- name: deliveries:count
SELECT count(*)
FROM delivery AS d JOIN event AS e ON e.key = d.event LEFT JOIN job_card AS c ON c.key = e.job
WHERE {where};
