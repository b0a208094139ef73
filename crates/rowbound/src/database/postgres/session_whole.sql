-- Settings that only a superuser may change. Where one is not as it must be and we may not change it, a database is not opened; a session that comes later is
-- told by the check, which asks for the first two with each snapshot.
select pg_catalog.set_config(s.name, s.value, false)
from (values
    -- Rows on a damaged page are gone without an error, or something else is read in their place.
    ('zero_damaged_pages', 'off'),
    ('ignore_checksum_failure', 'off'),
    -- No trigger and no foreign key of the application would hold for `put`.
    ('session_replication_role', 'origin')
) as s (name, value)
where pg_catalog.current_setting(s.name, true) operator(pg_catalog.<>) s.value
