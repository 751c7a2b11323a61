-- The chain of results: what is recorded of each machine that was judged, each
-- hashed over the one before it. Rows are only ever added.
CREATE TABLE results (
    seq      INTEGER PRIMARY KEY,
    at       INTEGER NOT NULL,
    instance TEXT NOT NULL,
    machine  TEXT NOT NULL,
    ear      TEXT NOT NULL,
    hash     TEXT NOT NULL
) STRICT;
CREATE INDEX results_instance ON results (instance, seq);
