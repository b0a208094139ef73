//! A batch is settled: entries in, candidates out, in one short transaction.

use sqlx::PgPool;

use super::{
    fault::failed,
    rows::{micros, storable, whole},
};
use crate::{database::by_waits, error::Result, queue::Settlement};

pub(super) async fn settle(pool: &PgPool, settlement: &Settlement) -> Result<u64> {
    let mut tx = pool.begin_with("begin isolation level read committed").await.map_err(|e| failed("cannot begin a transaction", e))?;
    let mut count = 0;
    let Settlement { owner, storage, settled, empty, back, derived, opened } = settlement;
    if !opened.is_empty() {
        sqlx::query(
            "insert into rowbound.candidate (storage, binding, value, key, event, released_at, opened)
             select c.storage, c.binding, o.name, c.key, c.event, c.released_at, true
             from unnest($2::int8[], $3::text[]) with ordinality as o(id, name, n)
             join rowbound.candidate c on c.id = o.id and case when c.due_at is null then false else true end
                 and case when c.owner = $1 then true else false end
             order by o.n",
        )
        .persistent(false)
        .bind(owner)
        .bind(opened.iter().map(|o| o.id).collect::<Vec<_>>())
        .bind(opened.iter().map(|o| o.name.as_str()).collect::<Vec<_>>())
        .execute(&mut *tx)
        .await
        .map_err(|e| failed("cannot open up candidates", e))?;
    }
    if !settled.is_empty() {
        let entered: i64 = sqlx::query_scalar(include_str!("settle.sql"))
            .persistent(false)
            .bind(owner)
            .bind(storage)
            .bind(settled.iter().map(|s| s.id).collect::<Vec<_>>())
            .bind(settled.iter().map(|s| s.outcome.word()).collect::<Vec<_>>())
            .bind(settled.iter().map(|s| s.name.as_deref().map(storable)).collect::<Vec<_>>())
            .bind(settled.iter().map(|s| s.size.map(whole)).collect::<Vec<_>>())
            .bind(settled.iter().map(|s| s.place.as_deref().map(storable)).collect::<Vec<_>>())
            .bind(settled.iter().map(|s| s.note.as_deref().map(storable)).collect::<Vec<_>>())
            .fetch_one(&mut *tx)
            .await
            .map_err(|e| failed("cannot settle candidates", e))?;
        count = entered.unsigned_abs();
    }
    if !empty.is_empty() {
        // Which index is taken, and why the owner is compared so, stands in settle.sql.
        sqlx::query(
            "delete from rowbound.candidate c using unnest($2::int8[]) as d(id)
             where c.id = d.id and case when c.due_at is null then false else true end and case when c.owner = $1 then true else false end",
        )
        .persistent(false)
        .bind(owner)
        .bind(empty)
        .execute(&mut *tx)
        .await
        .map_err(|e| failed("cannot settle candidates", e))?;
    }
    for (waits, back) in by_waits(back)? {
        sqlx::query(include_str!("put_back.sql"))
            .persistent(false)
            .bind(owner)
            .bind(back.iter().map(|(b, _)| b.id).collect::<Vec<_>>())
            .bind(back.iter().map(|(b, _)| micros(b.wait)).collect::<Vec<_>>())
            .bind(back.iter().map(|(b, _)| i32::try_from(b.attempts).unwrap_or(i32::MAX)).collect::<Vec<_>>())
            .bind(back.iter().map(|(b, _)| storable(&b.note)).collect::<Vec<_>>())
            .bind(waits)
            .bind(back.iter().map(|(_, own)| own.as_deref()).collect::<Vec<_>>())
            .execute(&mut *tx)
            .await
            .map_err(|e| failed("cannot put candidates back", e))?;
    }
    if !derived.is_empty() {
        sqlx::query(
            "insert into rowbound.candidate (storage, value, key, event, due_at)
             select $1, d.name, d.original, 'derivative', now() from unnest($2::text[], $3::text[]) as d(name, original)",
        )
        .bind(storage)
        .bind(derived.iter().map(|d| d.name.as_str()).collect::<Vec<_>>())
        .bind(derived.iter().map(|d| d.original.as_str()).collect::<Vec<_>>())
        .execute(&mut *tx)
        .await
        .map_err(|e| failed("cannot announce derivatives", e))?;
    }
    tx.commit().await.map_err(|e| failed("cannot settle candidates", e))?;
    Ok(count)
}
