-- Everything that Rowbound keeps in a PostgreSQL database, beside the functions and triggers of capture.
-- Nobody but its owner needs a right on it: capture writes as the owner of its functions.
create schema rowbound;

-- What `attach` leaves: one row.
create table rowbound.installation (
    id int primary key default 1 check (id = 1),
    record jsonb not null
);

-- A name that may have become unreferenced. No btree on `value`: an entry is limited to 2704 bytes, and a longer name would make
-- the application's own statement fail. Vacuum runs by a fixed count, because a queue is empty most of the time.
-- No primary key: each index that a fresh row enters is paid by the application's DELETE, so it enters one. Nobody looks a fresh row up
-- by its id; a claim moves it into the other two.
create table rowbound.candidate (
    id bigint generated always as identity,
    storage text not null,
    binding int,
    value text not null,
    key text,
    event text not null,
    -- The transaction's start: earlier than the true moment, never later.
    released_at timestamptz not null default now(),
    -- null: fresh, due once its grace has passed. With an owner: the end of the owner's lease. Without: due again then.
    due_at timestamptz,
    owner text,
    attempts int not null default 0,
    note text,
    -- A name out of a value with many names.
    opened bool not null default false,
    -- The transactions whose end it waits for, as JSON.
    waits text,
    check (owner is null or due_at is not null)
) with (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 20000
);

-- All columns tell a row apart, because no key does: else a publication FOR ALL TABLES would refuse every claim. It costs nothing but under
-- wal_level = logical, where the log then has a changed row's old values too.
alter table rowbound.candidate replica identity full;

-- A claim reads the oldest of each kind, and nothing of another storage that may have a backlog of a million.
create index candidate_fresh on rowbound.candidate (storage, released_at) where due_at is null;

create index candidate_later on rowbound.candidate (storage, due_at) where due_at is not null;

-- What a settlement looks up. A CASE instead of "due_at is not null", because the planner knows nothing of a CASE: statistics gathered
-- while nothing was claimed say that hardly a row has a due_at, and it would compare every one that has with every decision.
create unique index candidate_claimed on rowbound.candidate (id) where case when due_at is null then false else true end;

-- What was decided, when, why, and which row let go. Append-only.
create table rowbound.ledger (
    id bigint generated always as identity primary key,
    at timestamptz not null default now(),
    storage text not null,
    binding int,
    name text not null,
    key text,
    event text not null,
    released_at timestamptz,
    outcome text not null check (outcome in ({outcomes})),
    size bigint,
    place text,
    note text,
    owner text
);

create index ledger_at on rowbound.ledger (at);

-- Hash: a name may be longer than a btree entry.
create index ledger_name on rowbound.ledger using hash (name);

-- Who wants to hear of what enters the ledger.
create table rowbound.follower (
    id int generated always as identity primary key,
    name text not null unique,
    since timestamptz not null default now(),
    outcomes text[] not null
);

-- What a follower has yet to hear: written with the entry, gone when it was delivered. `lane` stands for storage and name, of which the earlier entry goes
-- first; two names with one hash wait for each other, which is harmless. No foreign keys: they would cost each entry, and `unfollow` takes what is its own.
create table rowbound.delivery (
    follower int not null,
    entry bigint not null,
    lane bigint not null,
    -- With an owner: the end of the owner's lease. Without: due then.
    due_at timestamptz not null default now(),
    owner text,
    attempts int not null default 0,
    note text,
    primary key (follower, entry)
) with (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 20000
);

create index delivery_due on rowbound.delivery (follower, due_at);

create index delivery_lane on rowbound.delivery (follower, lane, entry);

-- Signs of life of those who work here, as JSON.
create table rowbound.worker (
    worker text primary key,
    seen timestamptz not null,
    record text not null
);

-- Who keeps a storage's trash (re-checks, erasures), and what is known of it, as JSON.
create table rowbound.upkeep (
    storage text primary key,
    owner text,
    -- With an owner: the end of the owner's lease.
    until timestamptz not null,
    record text not null
);
