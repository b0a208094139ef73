-- Says to every process of this installation that this session is Rowbound's, and never writes a row of the application: it holds a lock that only
-- who may read the installation's record can know. Sessions are told by it (open_transactions.sql), not by a name that anybody may give himself. The
-- lock is shared: nobody waits for it, and nobody can keep it from us. It goes with the session.
select set_config('rowbound.mark', key::text, false), pg_advisory_lock_shared(key)
from (select ('x' || left(md5('rowbound ' || (record ->> 'id')), 16))::bit(64)::int8 as key from rowbound.installation where id = 1) i
