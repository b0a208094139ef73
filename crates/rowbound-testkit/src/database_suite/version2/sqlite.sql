-- What version 2 made, as it stood there.

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

CREATE TABLE IF NOT EXISTS rowbound_follower (
    id       INTEGER PRIMARY KEY,
    name     TEXT NOT NULL UNIQUE,
    since    INTEGER NOT NULL,
    outcomes TEXT NOT NULL
);

CREATE TABLE IF NOT EXISTS rowbound_delivery (
    follower INTEGER NOT NULL,
    entry    INTEGER NOT NULL,
    lane     BLOB NOT NULL,
    due_at   INTEGER NOT NULL,
    owner    TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    note     TEXT,
    PRIMARY KEY (follower, entry)
) WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS rowbound_delivery_due ON rowbound_delivery (follower, due_at);

CREATE INDEX IF NOT EXISTS rowbound_delivery_lane ON rowbound_delivery (follower, lane, entry);
