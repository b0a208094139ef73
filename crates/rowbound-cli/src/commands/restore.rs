//! `rowbound restore`.

use std::{collections::BTreeSet, io::Read, path::Path, sync::Arc};

use rowbound::{
    Error, FileName, Kind, Plan, Result,
    database::Database,
    storage::{Restored, Storage, Trashed},
    trash::{self, TrashFilter},
};
use serde::Serialize;

use crate::{
    args::{Args, RestoreArgs},
    exit, output,
};

/// What `restore` answers for several files.
#[derive(Debug, Serialize)]
struct Answer {
    /// The storage.
    storage: String,
    /// Whether nothing was changed, because `--yes` was not given.
    dry_run: bool,
    /// Files that came back, or would.
    restored: Vec<Trashed>,
    /// Files that stay in the trash.
    left: Vec<Left>,
    /// Names that were asked for and are not in the trash.
    missing: Vec<FileName>,
    /// Parts of the trash that could not be read.
    unread: Vec<String>,
}

/// A file that stays in the trash.
#[derive(Debug, Serialize)]
struct Left {
    /// The file.
    #[serde(flatten)]
    file: Trashed,
    /// Why.
    why: String,
}

const OCCUPIED: &str = "another file has this name now";

pub async fn restore(args: &Args, a: &RestoreArgs) -> Result<u8> {
    let listed = a.from.as_deref().map(lines).transpose()?;
    let (plan, db) = super::open(args).await?;
    let storage_name = super::storage(&plan, a.storage.as_deref())?;
    let allowed = plan.storages[storage_name].location.names();
    let names: Vec<FileName> = a.names.iter().map(|name| super::name(name, allowed)).collect::<Result<_>>()?;
    let listed: Option<BTreeSet<FileName>> =
        listed.map(|names| names.iter().map(|name| super::name(name, allowed)).collect::<Result<_>>()).transpose()?;
    let (storage, shared) = open(&plan, db.as_ref(), storage_name).await?;
    if let [name] = &names[..] {
        let file = trash::restore(db.as_ref(), storage_name, storage.as_ref(), name).await?;
        output::answer(args.format, &file, |f| {
            format!(
                "restored {} ({}). It stays until a row references it and releases it again.",
                output::safe(f.name.as_str()),
                output::bytes(f.size)
            )
        })?;
        db.close().await;
        return Ok(exit::DONE);
    }
    let wanted = TrashFilter {
        since: a.since,
        prefix: a.prefix.clone().unwrap_or_default(),
        names: if names.is_empty() { listed } else { Some(names.iter().cloned().collect()) },
        own: shared && names.is_empty(),
    };
    let dry_run = names.is_empty() && !a.yes;
    let found = trash::find(db.as_ref(), storage_name, storage.as_ref(), &wanted).await?;
    let mut answer = Answer {
        storage: storage_name.to_owned(),
        dry_run,
        restored: Vec::new(),
        left: Vec::new(),
        missing: found.missing,
        unread: found.errors.iter().map(Error::full).collect(),
    };
    let (occupied, free): (Vec<_>, Vec<_>) = found.files.into_iter().partition(|(_, occupied)| *occupied);
    answer.left.extend(occupied.into_iter().map(|(file, _)| Left { file, why: OCCUPIED.to_owned() }));
    let free: Vec<Trashed> = free.into_iter().map(|(file, _)| file).collect();
    if dry_run {
        answer.restored = free;
    } else {
        let done = trash::restore_all(db.as_ref(), storage_name, storage.as_ref(), &free).await?;
        for (file, one) in free.into_iter().zip(done) {
            match one {
                Ok(Restored::Back) => answer.restored.push(file),
                Ok(Restored::Occupied) => answer.left.push(Left { file, why: OCCUPIED.to_owned() }),
                Ok(Restored::Missing) => answer.missing.push(file.name),
                Err(e) => answer.left.push(Left { file, why: e.full() }),
            }
        }
    }
    output::answer(args.format, &answer, text)?;
    db.close().await;
    let all = answer.left.is_empty() && answer.missing.is_empty() && answer.unread.is_empty();
    Ok(if all { exit::DONE } else { exit::LEFT })
}

/// The storage, and whether another database uses it, too.
async fn open(plan: &Plan, db: &dyn Database, name: &str) -> Result<(Arc<dyn Storage>, bool)> {
    let storage = rowbound::storage::open(&plan.storages[name])?;
    let record = db
        .installation()
        .await?
        .ok_or_else(|| Error::new(Kind::NotAttached, "Rowbound is not attached to this database").hint("rowbound attach"))?;
    if let Some(id) = record.storages.get(name) {
        storage.expect(id);
    }
    let shared = storage.marker().await?.is_some_and(|marker| marker.is_shared(&record.id));
    Ok((storage, shared))
}

/// What stands in a list: one name on each line, or, if there is a NUL byte in it, each ended by one.
fn lines(file: &Path) -> Result<Vec<String>> {
    let mut bytes = Vec::new();
    let read = match file == Path::new("-") {
        true => std::io::stdin().read_to_end(&mut bytes),
        false => std::fs::File::open(file).and_then(|mut file| file.read_to_end(&mut bytes)),
    };
    let in_context = |e: Error| e.with("list", file.display());
    read.map_err(|e| {
        in_context(Error::new(Kind::Config, "cannot read the list").because(e).hint("name a file with --from, or - for standard input"))
    })?;
    let text = String::from_utf8(bytes).map_err(|e| in_context(Error::new(Kind::Config, "the list is not UTF-8").because(e)))?;
    let names: Vec<&str> = match text.contains('\0') {
        true => text.split('\0').collect(),
        false => text.lines().collect(),
    };
    Ok(names.into_iter().filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

fn text(a: &Answer) -> String {
    let row = |file: &Trashed, why: &str| vec![output::bytes(file.size), output::name(file.name.as_str()), why.to_owned()];
    let mut rows: Vec<_> = a.restored.iter().map(|file| row(file, "")).collect();
    rows.extend(a.left.iter().map(|left| row(&left.file, &format!("stays: {}", output::safe(&left.why)))));
    let mut out = output::table(&rows, 0);
    for name in &a.missing {
        out.push_str(&format!("not in the trash: {}\n", output::name(name.as_str())));
    }
    for why in &a.unread {
        out.push_str(&format!("cannot be read: {}\n", output::safe(why)));
    }
    let (count, bytes) = (a.restored.len() as u64, a.restored.iter().map(|file| file.size).sum());
    let (files, bytes) = (output::files(count), output::bytes(bytes));
    out.push_str(&match a.dry_run {
        true => format!("{files} ({bytes}) would come back. Nothing was changed: add --yes\n"),
        false => format!("{files} ({bytes}) came back. They stay until rows reference them and release them again\n"),
    });
    out
}
