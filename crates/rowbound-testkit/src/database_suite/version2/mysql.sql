-- What version 2 made, as it stood there.

create table if not exists rowbound_installation (
  id int not null primary key,
  account varchar(255) null,
  record longtext not null,
  constraint rowbound_only_one check (id = 1)
) engine = InnoDB default charset = utf8mb4 collate = utf8mb4_bin comment = 'Rowbound: what is attached';

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
  constraint rowbound_whose check (storage is not null or binding is not null)
) engine = InnoDB default charset = utf8mb4 collate = utf8mb4_bin comment = 'Rowbound: names that may be unreferenced';

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
  constraint rowbound_outcome check (outcome in ('erased', 'trashed', 'purged', 'restored', 'kept', 'protected', 'missing', 'refused', 'foreign', 'shadow', 'unbound', 'duplicate', 'opened'))
) engine = InnoDB default charset = utf8mb4 collate = utf8mb4_bin comment = 'Rowbound: what was decided';

create table if not exists rowbound_follower (
  id int not null auto_increment primary key,
  name varchar(100) not null,
  since datetime(6) not null,
  outcomes varchar(400) not null,
  unique key rowbound_follower_name (name)
) engine = InnoDB default charset = utf8mb4 collate = utf8mb4_bin comment = 'Rowbound: who hears of it';

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
) engine = InnoDB default charset = utf8mb4 collate = utf8mb4_bin comment = 'Rowbound: what is to be heard';

create trigger rowbound_identity before delete on rowbound_installation for each row begin end;
