-- Times are microseconds since 1970 in UTC; 0 is none.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

-- What is searched for has a column, the rest is in the document.
CREATE TABLE instances (
    seq       INTEGER PRIMARY KEY AUTOINCREMENT,
    id        TEXT NOT NULL UNIQUE,
    user      TEXT NOT NULL,
    desired   TEXT NOT NULL CHECK (desired IN ('present', 'absent')),
    state     TEXT NOT NULL,
    version   INTEGER NOT NULL,
    machine   TEXT NOT NULL,
    next_at   INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    document  TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX instances_one_per_user ON instances (user) WHERE desired = 'present';
CREATE UNIQUE INDEX instances_machine ON instances (machine) WHERE machine <> '';
CREATE INDEX instances_due ON instances (next_at) WHERE next_at > 0;

-- Every machine id ever drawn, so that what a provider lists can be told from
-- what an older copy of this store made.
CREATE TABLE machines (
    id       TEXT PRIMARY KEY,
    instance TEXT NOT NULL
) STRICT;

CREATE TABLE events (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    at         INTEGER NOT NULL,
    instance   TEXT NOT NULL,
    from_state TEXT NOT NULL,
    to_state   TEXT NOT NULL,
    reason     TEXT NOT NULL
) STRICT;

CREATE INDEX events_instance ON events (instance, id);

CREATE TABLE releases (
    digest      TEXT PRIMARY KEY,
    version     TEXT NOT NULL,
    epoch       INTEGER NOT NULL,
    manifest    BLOB NOT NULL,
    bundle      BLOB NOT NULL,
    disk_path   TEXT NOT NULL,
    disk_sha256 TEXT NOT NULL,
    disk_bytes  INTEGER NOT NULL,
    added_at    INTEGER NOT NULL
) STRICT;

CREATE TABLE receipts (
    id     TEXT PRIMARY KEY,
    body   TEXT NOT NULL,
    at     INTEGER NOT NULL,
    result TEXT NOT NULL
) STRICT;

CREATE INDEX receipts_at ON receipts (at);

-- A user who was deleted is remembered by a keyed hash alone.
CREATE TABLE tombstones (
    user  TEXT PRIMARY KEY,
    up_to INTEGER NOT NULL
) STRICT;

CREATE TABLE tokens (
    hash TEXT PRIMARY KEY,
    name TEXT NOT NULL
) STRICT;
