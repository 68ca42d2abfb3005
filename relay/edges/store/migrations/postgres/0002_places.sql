-- Of a lane with few places each `limited` job takes one, from when it was given it until it ends. Before that it waits,
-- `waits_from` its time on, and is due only at its deadline.
ALTER TABLE job ADD COLUMN limited boolean NOT NULL DEFAULT false, ADD COLUMN waits_from double precision;
CREATE INDEX job_places ON job (lane) WHERE limited AND waits_from IS NULL AND due IS NOT NULL;
CREATE INDEX job_waiting ON job (lane, waits_from) WHERE waits_from IS NOT NULL AND due IS NOT NULL;
