-- What is only needed once an hour is no tree to write with each signup.
DROP INDEX receipts_at;

-- No row of these is ever deleted, so a number is never used twice without
-- SQLite's own table of the numbers given out, which costs each signup a page.
CREATE TABLE instances_next (
    seq       INTEGER PRIMARY KEY,
    id        TEXT NOT NULL UNIQUE,
    user      TEXT NOT NULL,
    desired   TEXT NOT NULL CHECK (desired IN ('present', 'absent')),
    state     TEXT NOT NULL,
    version   INTEGER NOT NULL,
    machine   TEXT NOT NULL,
    last_seen INTEGER NOT NULL,
    document  TEXT NOT NULL
) STRICT;
INSERT INTO instances_next SELECT seq, id, user, desired, state, version, machine, last_seen, document FROM instances;
DROP TABLE instances;
ALTER TABLE instances_next RENAME TO instances;
CREATE UNIQUE INDEX instances_one_per_user ON instances (user) WHERE desired = 'present';
CREATE UNIQUE INDEX instances_machine ON instances (machine) WHERE machine <> '';
CREATE INDEX instances_state ON instances (state, desired, seq);
CREATE INDEX instances_leaving ON instances (user) WHERE desired = 'absent' AND state <> 'deleted';

CREATE TABLE events_next (
    id         INTEGER PRIMARY KEY,
    at         INTEGER NOT NULL,
    instance   TEXT NOT NULL,
    from_state TEXT NOT NULL,
    to_state   TEXT NOT NULL,
    reason     TEXT NOT NULL
) STRICT;
INSERT INTO events_next SELECT id, at, instance, from_state, to_state, reason FROM events;
DROP TABLE events;
ALTER TABLE events_next RENAME TO events;
CREATE INDEX events_instance ON events (instance, id);
