-- Says to every process of this installation that this session is Rowbound's, and never writes a row of the application: it holds a lock whose number is made
-- of the installation's id, which no other program takes by chance. Sessions are told by it (open_transactions.sql), not by a name that anybody may give
-- himself. It is no secret, pg_locks shows it: it protects from mistakes, not from who takes it on purpose. The lock is shared: nobody waits for it, and nobody
-- can keep it from us. It goes with the session, so that none behind a pooler is marked, which may hand a session on with what we leave in it: see session.rs.
select set_config('rowbound.mark', key::text, false), pg_advisory_lock_shared(key)
from (select ('x' || left(md5('rowbound ' || (record ->> 'id')), 16))::bit(64)::int8 as key from rowbound.installation where id = 1) i
