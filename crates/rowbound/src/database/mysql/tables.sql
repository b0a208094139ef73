-- The tables of Rowbound on MySQL and MariaDB, in the database of the URL. Statements end with a line `;;`.
-- All are InnoDB (whatever the server's default is: a candidate must roll back with the application's transaction) and
-- compare bytes. `{outcomes}` stands for the words of every outcome.

-- `record` is the installation as JSON, or '' while `attach` is not done. `account` is the account that `attach` made for
-- the triggers to run as, if it could; `detach` drops it. This table is never altered by an upgrade.
create table if not exists rowbound_installation (
  id int not null primary key,
  account varchar(255) null,
  record longtext not null,
  constraint rowbound_only_one check (id = 1)
) engine = InnoDB default charset = utf8mb4 collate = utf8mb4_bin comment = 'Rowbound: what is attached';;

-- Only the primary key: every further index would be paid by each of the application's deletes.
-- `value` is a blob, so that no name is too long or of a charset that would make the application's DELETE fail.
-- A candidate waits while `due_at` is null (its grace counts from `released_at`), is leased while `owner` is set and `due_at`
-- lies ahead, and waits for another try while `note` is set and `owner` is not. `waits` are the transactions whose end it waits for, as JSON.
create table if not exists rowbound_candidate (
  id bigint not null auto_increment primary key,
  storage varchar(190) null,
  binding int null,
  value longblob not null,
  `key` longtext null,
  event varchar(16) not null,
  released_at datetime(6) not null,
  due_at datetime(6) null,
  owner varchar(190) null,
  attempts int not null default 0,
  note longtext null,
  opened boolean not null default false,
  waits longtext null,
  constraint rowbound_whose check (storage is not null or binding is not null)
) engine = InnoDB default charset = utf8mb4 collate = utf8mb4_bin comment = 'Rowbound: names that may be unreferenced';;

-- `name` is a blob: it is compared byte for byte (even utf8mb4_bin takes 'a' for 'a '), and a refused value may be anything.
create table if not exists rowbound_ledger (
  id bigint not null auto_increment primary key,
  at datetime(6) not null,
  storage varchar(190) not null,
  binding int null,
  name longblob not null,
  `key` longtext null,
  event varchar(16) not null,
  released_at datetime(6) null,
  outcome varchar(16) not null,
  size bigint unsigned null,
  place longtext null,
  note longtext null,
  owner varchar(190) null,
  key rowbound_ledger_at (at),
  key rowbound_ledger_name (name(190)),
  constraint rowbound_outcome check (outcome in ({outcomes}))
) engine = InnoDB default charset = utf8mb4 collate = utf8mb4_bin comment = 'Rowbound: what was decided';;

-- Who wants to hear of what enters the ledger. `outcomes` are words with commas between them.
create table if not exists rowbound_follower (
  id int not null auto_increment primary key,
  name varchar(100) not null,
  since datetime(6) not null,
  outcomes varchar(400) not null,
  unique key rowbound_follower_name (name)
) engine = InnoDB default charset = utf8mb4 collate = utf8mb4_bin comment = 'Rowbound: who hears of it';;

-- What a follower has yet to hear: written with the entry, gone when it was delivered. `lane` stands for storage and name, of which the earlier
-- entry goes first. With an owner `due_at` is the end of the owner's lease. No foreign keys: they would ask for the right REFERENCES.
create table if not exists rowbound_delivery (
  follower int not null,
  entry bigint not null,
  lane binary(16) not null,
  due_at datetime(6) not null,
  owner varchar(190) null,
  attempts int not null default 0,
  note longtext null,
  primary key (follower, entry),
  key rowbound_delivery_due (follower, due_at),
  key rowbound_delivery_lane (follower, lane, entry)
) engine = InnoDB default charset = utf8mb4 collate = utf8mb4_bin comment = 'Rowbound: what is to be heard';;

-- Signs of life of those who work here, as JSON.
create table if not exists rowbound_worker (
  worker varchar(190) not null primary key,
  seen datetime(6) not null,
  record longtext not null
) engine = InnoDB default charset = utf8mb4 collate = utf8mb4_bin comment = 'Rowbound: who works';;

-- Who keeps a storage's trash (re-checks, erasures), and what is known of it, as JSON. With an owner `until` is the end of the owner's lease.
create table if not exists rowbound_upkeep (
  storage varchar(190) not null primary key,
  owner varchar(190) null,
  `until` datetime(6) not null,
  record longtext not null
) engine = InnoDB default charset = utf8mb4 collate = utf8mb4_bin comment = 'Rowbound: who keeps the trash';;
