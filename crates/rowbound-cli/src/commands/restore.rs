//! `rowbound restore`.

use rowbound::{Error, Kind, Result, attach::open_storages, trash};

use crate::{
    args::{Args, NameArgs},
    exit, output,
};

pub async fn restore(args: &Args, a: &NameArgs) -> Result<u8> {
    let name = super::name(&a.name)?;
    let (plan, db) = super::open(args).await?;
    let storages = open_storages(&plan)?;
    let storage =
        storages.get(&a.storage).ok_or_else(|| Error::new(Kind::Config, "the plan has no such storage").with("storage", &a.storage))?;
    let record = db
        .installation()
        .await?
        .ok_or_else(|| Error::new(Kind::NotAttached, "Rowbound is not attached to this database").hint("rowbound attach"))?;
    if let Some(id) = record.storages.get(&a.storage) {
        storage.expect(id);
    }
    let file = trash::restore(db.as_ref(), &a.storage, storage.as_ref(), &name).await?;
    output::answer(args.format, &file, |f| {
        format!(
            "restored {} ({}). No row is changed: while none names it, a later release or sweep may collect it again.",
            output::safe(f.name.as_str()),
            output::bytes(f.size)
        )
    })?;
    db.close().await;
    Ok(exit::DONE)
}
