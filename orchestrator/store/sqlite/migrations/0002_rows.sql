-- Rows are their own jobs: what is unfinished is told by its state. The queue
-- that stood beside them is gone, and so is the time at which a row wanted to be
-- looked at, which was the wall clock's.
DROP INDEX instances_due;
ALTER TABLE instances DROP COLUMN next_at;

-- First come first served, and what holds a place.
CREATE INDEX instances_state ON instances (state, desired, seq);
-- Whose machine before is still going.
CREATE INDEX instances_leaving ON instances (user) WHERE desired = 'absent' AND state <> 'deleted';

-- One tree to write instead of two.
ALTER TABLE receipts RENAME TO receipts_before;
CREATE TABLE receipts (
    id     TEXT PRIMARY KEY,
    body   TEXT NOT NULL,
    at     INTEGER NOT NULL,
    result TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO receipts SELECT id, body, at, result FROM receipts_before;
DROP TABLE receipts_before;
CREATE INDEX receipts_at ON receipts (at);

DROP TABLE IF EXISTS river_job;
DROP TABLE IF EXISTS river_leader;
DROP TABLE IF EXISTS river_migration;
DROP TABLE IF EXISTS river_notification;
DROP TABLE IF EXISTS river_queue;
