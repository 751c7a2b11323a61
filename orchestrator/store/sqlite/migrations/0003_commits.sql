-- How many commits there were, which stands beside the database too.
CREATE TABLE commits (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    n    INTEGER NOT NULL
) STRICT;
INSERT INTO commits VALUES (1, 0);
