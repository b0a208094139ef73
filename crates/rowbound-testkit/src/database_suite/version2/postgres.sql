-- What version 2 made, as it stood there.

create schema rowbound;

create table rowbound.installation (
    id int primary key default 1 check (id = 1),
    record jsonb not null
);

create table rowbound.candidate (
    id bigint generated always as identity,
    storage text not null,
    binding int,
    value text not null,
    key text,
    event text not null,
    released_at timestamptz not null default now(),
    due_at timestamptz,
    owner text,
    attempts int not null default 0,
    note text,
    opened bool not null default false,
    check (owner is null or due_at is not null)
) with (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 20000
);

create index candidate_fresh on rowbound.candidate (storage, released_at) where due_at is null;

create index candidate_later on rowbound.candidate (storage, due_at) where due_at is not null;

create unique index candidate_claimed on rowbound.candidate (id) where case when due_at is null then false else true end;

create table rowbound.ledger (
    id bigint generated always as identity primary key,
    at timestamptz not null default now(),
    storage text not null,
    binding int,
    name text not null,
    key text,
    event text not null,
    released_at timestamptz,
    outcome text not null check (outcome in ('erased', 'trashed', 'purged', 'restored', 'kept', 'protected', 'missing', 'refused', 'foreign', 'shadow', 'unbound', 'duplicate', 'opened')),
    size bigint,
    place text,
    note text,
    owner text
);

create index ledger_at on rowbound.ledger (at);

create index ledger_name on rowbound.ledger using hash (name);

create table rowbound.follower (
    id int generated always as identity primary key,
    name text not null unique,
    since timestamptz not null default now(),
    outcomes text[] not null
);

create table rowbound.delivery (
    follower int not null,
    entry bigint not null,
    lane bigint not null,
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
