//! One attach or detach at a time. DDL commits by itself here, so that no transaction could keep others out.
//!
//! In: the database. Out: the right, as long as what is returned is kept. Promise: nobody but another attach or detach is waited for, and a stopped one for a
//! minute at most. A lock by name is all that the server has for this, and every account may take any name: a stranger that holds ours is passed by.
//! Then, and where a connection with the right goes meanwhile, the record's own lock tells of two at once.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, MySqlConnection, Row};

use super::{Mysql, fault, int, session};
use crate::{
    clock,
    error::{Error, Kind, Result},
};

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(200);

/// The right to be the only one that attaches or detaches here; `None`: go on without it.
///
/// # Errors
/// [`Kind::Busy`] when another attach or detach has it for longer than [`super::Options::lock_patience`].
pub(super) async fn alone(db: &Mysql) -> Result<Option<MySqlConnection>> {
    let mut conn = db.own_connection().await?;
    // A process that was stopped while it attached must not keep the right.
    session::never_silent(&mut conn).await?;
    let hash = db.database.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let name = format!("rowbound.{hash:016x}");
    let until = clock::deadline(db.options.lock_patience);
    loop {
        let sql = format!("select cast(get_lock('{name}', 0) as signed), cast(is_used_lock('{name}') as signed)");
        let had = match sqlx::raw_sql(AssertSqlSafe(sql)).fetch_one(&mut conn).await {
            Ok(row) => row,
            Err(e) => {
                tracing::debug!(error = %e, "this server has no named locks");
                return Ok(None);
            }
        };
        let number = |column| had.try_get_unchecked::<Option<i64>, _>(column).map_err(fault);
        if number(0)? == Some(1) {
            return Ok(Some(conn));
        }
        if let Some(holder) = number(1)?
            && let Some(who) = stranger(&mut conn, holder).await?
        {
            tracing::warn!(
                lock = name,
                connection = holder,
                user = who,
                "somebody else holds the lock by which one attach at a time works"
            );
            return Ok(None);
        }
        if Instant::now() >= until {
            return Err(Error::new(Kind::Busy, "another attach or detach is at work on this database")
                .hint("nothing was changed; try again when it has ended"));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The user of a connection, if it is none of ours: another account, or one in another database.
async fn stranger(conn: &mut MySqlConnection, holder: i64) -> Result<Option<String>> {
    let row = sqlx::raw_sql("select cast(connection_id() as signed)").fetch_one(&mut *conn).await.map_err(fault)?;
    let me = int(&row, 0)?;
    let threads = session::threads(conn).await?;
    let [holder, me] = [holder, me].map(|id| threads.iter().find(|t| t.id == id));
    let (Some(holder), Some(me)) = (holder, me) else { return Ok(None) };
    let ours = holder.user == me.user && holder.database == me.database;
    Ok(if ours { None } else { Some(holder.user.clone()) })
}
