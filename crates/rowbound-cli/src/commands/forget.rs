//! `rowbound forget`.

use rowbound::{Error, Kind, Result, follow::Follower};
use serde::Serialize;

use crate::{
    args::{Args, ForgetArgs},
    exit, output,
};

/// What `forget` answers.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    /// The hook's name.
    name: &'a str,
    /// How many deliveries were given up.
    given_up: u64,
}

pub async fn forget(args: &Args, a: &ForgetArgs) -> Result<u8> {
    let (_, db) = super::open(args).await?;
    let unknown =
        || Error::new(Kind::NotFound, "nothing follows under this name").with("hook", &a.name).hint("`rowbound status` lists them");
    let known = db.followers().await?.into_iter().find(|f| f.name == a.name).ok_or_else(unknown)?;
    if known.waiting > 0 && !a.give_up {
        return Err(Error::new(Kind::Busy, "deliveries wait for this hook: nothing was changed")
            .with("hook", &a.name)
            .with("waiting", known.waiting)
            .hint(format!(
                "let `rowbound run` or `rowbound collect` deliver them, or give them up: rowbound forget --give-up {}",
                a.name
            )));
    }
    let given_up = Follower::forget(db.as_ref(), &a.name).await?.ok_or_else(unknown)?;
    output::answer(args.format, &Answer { name: &a.name, given_up }, |answer| match answer.given_up {
        0 => format!("{} is forgotten\n", answer.name),
        n => format!("{} is forgotten, and {n} deliveries with it\n", answer.name),
    })?;
    db.close().await;
    Ok(exit::DONE)
}
