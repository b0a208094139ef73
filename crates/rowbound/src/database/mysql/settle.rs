//! A batch is settled: entries in, candidates out, in one short transaction.

use super::{
    Mysql, deliver, fault, interval,
    rows::cut,
    values::{blob, chars, hex, insert},
};
use crate::{
    database::by_waits,
    error::{Error, Kind, Result},
    queue::Settlement,
};

pub(super) async fn settle(db: &Mysql, settlement: &Settlement) -> Result<u64> {
    let mut tx = db.pool().begin().await.map_err(fault)?;
    let mut count = 0;
    if !settlement.opened.is_empty() {
        let names = settlement.opened.iter().map(|o| serde_json::json!({ "id": o.id, "name": hex(o.name.as_str().as_bytes()) }));
        sqlx::query(include_str!("settle_open.sql"))
            .bind(serde_json::Value::Array(names.collect()).to_string())
            .bind(&settlement.owner)
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
    }
    if !settlement.settled.is_empty() {
        let settled: Vec<_> = settlement
            .settled
            .iter()
            .map(|s| {
                let mut item = serde_json::Map::new();
                item.insert("id".into(), s.id.into());
                item.insert("outcome".into(), s.outcome.word().into());
                let texts = [("name", s.name.clone()), ("place", s.place.clone()), ("note", s.note.as_deref().map(cut))];
                for (field, text) in texts {
                    if let Some(text) = text {
                        item.insert(field.into(), hex(text.as_bytes()).into());
                    }
                }
                if let Some(size) = s.size {
                    item.insert("size".into(), size.into());
                }
                serde_json::Value::Object(item)
            })
            .collect();
        let settled = serde_json::Value::Array(settled).to_string();
        let mark = deliver::mark(&mut tx).await?.map(|mark| {
            let owner: String = settlement.owner.chars().take(170).collect();
            format!("{owner} {mark}")
        });
        let done = sqlx::query(include_str!("settle_ledger.sql"))
            .bind(&settlement.storage)
            .bind(&mark)
            .bind(&settled)
            .bind(&settlement.owner)
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
        let entered = done.rows_affected();
        if let Some(mark) = mark.filter(|_| entered > 0) {
            deliver::tell(&mut tx, &mark, done.last_insert_id()).await?;
        }
        count = sqlx::query(include_str!("settle_delete.sql"))
            .bind(&settled)
            .bind(&settlement.owner)
            .execute(&mut *tx)
            .await
            .map_err(fault)?
            .rows_affected();
        if entered != count {
            return Err(Error::new(Kind::Database, "the ledger and the queue do not agree: nothing was settled")
                .with("entered", entered)
                .with("removed", count));
        }
    }
    if !settlement.empty.is_empty() {
        let empty: Vec<_> = settlement.empty.iter().map(|id| serde_json::json!({ "id": id })).collect();
        sqlx::query(include_str!("settle_delete.sql"))
            .bind(serde_json::Value::Array(empty).to_string())
            .bind(&settlement.owner)
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
    }
    for (waits, back) in by_waits(&settlement.back)? {
        let back: Vec<_> = back
            .iter()
            .map(|(b, own)| {
                let mut row = serde_json::json!({
                    "id": b.id, "wait": interval(b.wait), "attempts": i32::try_from(b.attempts).unwrap_or(i32::MAX), "note": hex(cut(&b.note).as_bytes()),
                });
                if let Some(own) = own {
                    row["waits"] = hex(own.as_bytes()).into();
                }
                row
            })
            .collect();
        sqlx::query(include_str!("settle_back.sql"))
            .bind(serde_json::Value::Array(back).to_string())
            .bind(waits)
            .bind(&settlement.owner)
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
    }
    let storage = chars(&settlement.storage);
    let derived = settlement.derived.iter().map(|d| {
        let (name, original) = (blob(d.name.as_str().as_bytes()), chars(d.original.as_str()));
        format!("({storage}, {name}, {original}, 'derivative', utc_timestamp(6), utc_timestamp(6))")
    });
    insert(&mut tx, "rowbound_candidate (storage, value, `key`, event, released_at, due_at)", derived).await?;
    tx.commit().await.map_err(fault)?;
    Ok(count)
}
