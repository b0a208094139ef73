-- Taken where it is free, has run out or is the owner's own. The row is locked while it is looked at, and the clock is read after that.
-- $1 storage, $2 owner, $3 lease in microseconds, $4 what is known of a trash that nobody has kept yet
insert into rowbound.upkeep as u (storage, owner, until, record)
values ($1, $2, clock_timestamp() + $3::int8 * interval '1 microsecond', $4)
on conflict (storage) do update
set owner = excluded.owner, until = clock_timestamp() + $3::int8 * interval '1 microsecond'
where u.owner is null or u.owner = excluded.owner or u.until <= clock_timestamp()
returning record
