PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;
INSERT INTO meta VALUES('tombstone_salt','105600033c0fd33893ad6f61be5202a3f6d1126cfdaf131504fe198b35e57dac');
CREATE TABLE machines (
    id       TEXT PRIMARY KEY,
    instance TEXT NOT NULL
) STRICT;
INSERT INTO machines VALUES('mf7sum7reoyfujegmremsftnom','vgi4ycxw6ybwzq3mza6mrjdpqi');
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
INSERT INTO releases VALUES('0900000000000000000000000000000000000000000000000000000000000000','1.0.0',1,X'7b7d',X'62756e646c65','/disk.raw','0000000000000000000000000000000000000000000000000000000000000000',1,1775001600000000);
CREATE TABLE tombstones (
    user  TEXT PRIMARY KEY,
    up_to INTEGER NOT NULL
) STRICT;
CREATE TABLE tokens (
    hash TEXT PRIMARY KEY,
    name TEXT NOT NULL
) STRICT;
CREATE TABLE receipts (
    id     TEXT PRIMARY KEY,
    body   TEXT NOT NULL,
    at     INTEGER NOT NULL,
    result TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE commits (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    n    INTEGER NOT NULL
) STRICT;
INSERT INTO commits VALUES(1,2);
CREATE TABLE IF NOT EXISTS "instances" (
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
INSERT INTO instances VALUES(1,'vgi4ycxw6ybwzq3mza6mrjdpqi','amara','present','ready',1,'mf7sum7reoyfujegmremsftnom',1775001600000000,'{"format":4,"id":"vgi4ycxw6ybwzq3mza6mrjdpqi","user":"amara","signed_up":"2026-04-01T00:00:00Z","wish":{"plan":"present","region":"present"},"desired":"present","data_bytes":7,"generation":1,"state":"ready","reason":"present","since":"2026-04-01T00:00:00Z","entries":1,"limit_ns":7,"lasted_ns":7,"machine":"mf7sum7reoyfujegmremsftnom","plan":{"provider":"present","release":"0900000000000000000000000000000000000000000000000000000000000000","region":"present","size":"present","data_bytes":7,"config":"AQI=","config_digest":"0900000000000000000000000000000000000000000000000000000000000000","token_hash":"0900000000000000000000000000000000000000000000000000000000000000"},"created":true,"uncertain":true,"attempts":7,"repairs":7,"endpoint":"present","enrolment":{"ek":"0900000000000000000000000000000000000000000000000000000000000000","ak":"AQI=","challenged_at":"2026-04-01T00:00:00Z","session":"0900000000000000000000000000000000000000000000000000000000000000","judged":true,"accepted":true,"verdict":"present","attestation_result":"AQI=","running":true,"healthy":true,"awaiting_owner":true},"created_at":"2026-04-01T00:00:00Z"}');
INSERT INTO instances VALUES(2,'vgi4ycxw6ybwzq3mza6mrjdpqq','grace','present','waiting',1,'',0,'{"format":4,"id":"vgi4ycxw6ybwzq3mza6mrjdpqq","user":"grace","desired":"present","generation":0,"state":"waiting","created_at":"2026-04-01T00:00:00Z"}');
CREATE TABLE IF NOT EXISTS "events" (
    id         INTEGER PRIMARY KEY,
    at         INTEGER NOT NULL,
    instance   TEXT NOT NULL,
    from_state TEXT NOT NULL,
    to_state   TEXT NOT NULL,
    reason     TEXT NOT NULL
) STRICT;
CREATE TABLE results (
    seq      INTEGER PRIMARY KEY,
    at       INTEGER NOT NULL,
    instance TEXT NOT NULL,
    machine  TEXT NOT NULL,
    ear      TEXT NOT NULL,
    hash     TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX instances_one_per_user ON instances (user) WHERE desired = 'present';
CREATE UNIQUE INDEX instances_machine ON instances (machine) WHERE machine <> '';
CREATE INDEX instances_state ON instances (state, desired, seq);
CREATE INDEX instances_leaving ON instances (user) WHERE desired = 'absent' AND state <> 'deleted';
CREATE INDEX events_instance ON events (instance, id);
CREATE INDEX results_instance ON results (instance, seq);
COMMIT;
PRAGMA user_version = 7;
