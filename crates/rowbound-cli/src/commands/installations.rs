//! `rowbound installations`.

use rowbound::{
    Result,
    attach::{User, forget_installation, installations as engine_installations},
};
use serde::Serialize;

use crate::{
    args::{Args, InstallationsArgs},
    exit, output,
};

/// What `installations --remove` answers.
#[derive(Debug, Serialize)]
struct Removed<'a> {
    /// The installation.
    installation: &'a str,
    /// Storages whose markers held it.
    storages: Vec<String>,
}

pub async fn installations(args: &Args, a: &InstallationsArgs) -> Result<u8> {
    let (plan, db) = super::open(args).await?;
    if let Some(name) = &a.storage {
        super::storage(&plan, Some(name))?;
    }
    match &a.remove {
        Some(id) => {
            let storages = forget_installation(&plan, db.as_ref(), id, a.storage.as_deref()).await?;
            output::answer(args.format, &Removed { installation: id, storages }, |done| {
                format!("removed {} from the marker of {}\n", output::safe(done.installation), done.storages.join(", "))
            })?;
        }
        None => {
            let mut users = engine_installations(&plan, db.as_ref()).await?;
            users.retain(|user| a.storage.as_ref().is_none_or(|name| user.storage == *name));
            output::answer(args.format, &users, |users| text(users))?;
        }
    }
    db.close().await;
    Ok(exit::DONE)
}

fn text(users: &[User]) -> String {
    if users.is_empty() {
        return "no database uses these storages\n".to_owned();
    }
    let rows: Vec<_> = users
        .iter()
        .map(|user| {
            vec![
                user.storage.clone(),
                output::safe(&user.installation),
                user.attached_at.map_or_else(|| "-".to_owned(), output::moment),
                if user.own { "this database" } else { "" }.to_owned(),
                output::safe(user.database.as_deref().unwrap_or("attached by an earlier version, which did not say its database")),
            ]
        })
        .collect();
    let mut out = output::table(&rows, 0);
    if users.iter().any(|user| !user.own) {
        out.push_str("next: if the database of one no longer exists: rowbound installations --remove ID\n");
    }
    out
}
