-- What the store asks of SQLite about subscriptions; `:now` and `:rows` are as in sqlite.sql.

-- name: subscriptions
SELECT id, name, version, sealed, state, reason, failures, failing, failing_since, last_error, last_act,
       created_at, updated_at
FROM subscription ORDER BY key;

-- name: subscriptions_edition
SELECT coalesce(max(number), 0) FROM subscription_edition;

-- name: new_edition
INSERT INTO subscription_edition (one, number) VALUES (1, 1)
ON CONFLICT (one) DO UPDATE SET number = number + 1;

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
SET version = version + 1, name = :name, sealed = :sealed, state = :state, reason = :reason,
    last_act = :last_act,
    failures = iif(:state = 'active' AND state <> 'active', 0, failures), updated_at = :now
WHERE id = :id AND version = :version
RETURNING id;

-- name: drop_subscription
DELETE FROM subscription WHERE id = :id AND sealed IS NOT NULL RETURNING id;

-- name: know_subscriptions
-- Those of the settings that are not known yet.
INSERT INTO subscription (id, created_at, updated_at)
SELECT r.value, :now, :now FROM jsonb_each(:rows) AS r
WHERE true
ON CONFLICT DO NOTHING
RETURNING id;

-- name: subscriptions_faring
-- How these fare.
SELECT s.id, s.state, s.reason, s.failures, s.failing, s.failing_since, s.last_error
FROM jsonb_each(:rows) AS r CROSS JOIN subscription AS s ON s.id = r.value;

-- name: mark_subscriptions
-- A change of state raises the version.
UPDATE subscription
SET version = version + (state <> r.value ->> 'state'), state = r.value ->> 'state', reason = r.value ->> 'reason',
    failures = r.value ->> 'failures', failing = r.value ->> 'failing', failing_since = r.value ->> 'failing_since',
    last_error = r.value ->> 'last_error', updated_at = iif(state <> r.value ->> 'state', :now, updated_at)
FROM jsonb_each(:rows) AS r
WHERE subscription.id = r.value ->> 'id';

-- name: end_deliveries
-- What waits in a lane ends as disabled; what is being tried ends by itself.
UPDATE delivery
SET version = version + 1, state = 'disabled', reason = :reason, due = NULL, finished_at = :now
WHERE lane = :lane AND due IS NOT NULL AND NOT leased;

-- name: renew_patience
-- What waits in a lane has its whole time anew.
UPDATE delivery SET since = :now, expires = :now + patience WHERE lane = :lane AND due IS NOT NULL AND NOT leased;

-- name: waiting
-- How many deliveries are pending in each of these lanes.
SELECT r.value, (SELECT count(*) FROM delivery AS d INDEXED BY delivery_due WHERE d.lane = r.value AND d.due IS NOT NULL)
FROM jsonb_each(:rows) AS r;

-- name: lanes_now
-- Those of these lanes that deliveries wait for.
SELECT l.lane, l.slots, l.closed_until
FROM jsonb_each(:rows) AS r CROSS JOIN lane AS l ON l.stage = 'announce' AND l.lane = r.value
WHERE l.slots IS NOT NULL;

-- name: deliveries:count
SELECT count(*)
FROM delivery AS d JOIN event AS e ON e.key = d.event LEFT JOIN job AS j ON j.key = e.job
WHERE {where};
