-- Rowbound's own tables in a SQLite database. They live in the application's file, because a trigger cannot write to
-- another one. No AUTOINCREMENT: it would leave a sqlite_sequence table behind after `detach`.
-- Times are milliseconds since 1970, UTC. One statement per paragraph.

CREATE TABLE IF NOT EXISTS rowbound_installation (
    id     INTEGER PRIMARY KEY CHECK (id = 1),
    record TEXT NOT NULL
);

CREATE TABLE IF NOT EXISTS rowbound_candidate (
    id          INTEGER PRIMARY KEY,
    storage     TEXT NOT NULL,
    binding     INTEGER,
    value       BLOB NOT NULL,
    key         TEXT,
    event       TEXT NOT NULL,
    released_at INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER)),
    due_at      INTEGER,
    attempts    INTEGER NOT NULL DEFAULT 0,
    note        TEXT,
    -- A name out of a value with many names.
    opened      INTEGER NOT NULL DEFAULT 0
);

CREATE INDEX IF NOT EXISTS rowbound_candidate_due ON rowbound_candidate (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE IF NOT EXISTS rowbound_ledger (
    id          INTEGER PRIMARY KEY,
    at          INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER)),
    storage     TEXT NOT NULL,
    binding     INTEGER,
    name        BLOB NOT NULL,
    key         TEXT,
    event       TEXT NOT NULL,
    released_at INTEGER,
    outcome     TEXT NOT NULL,
    size        INTEGER,
    place       TEXT,
    note        TEXT,
    owner       TEXT
);

CREATE INDEX IF NOT EXISTS rowbound_ledger_name ON rowbound_ledger (name);
