//! `rowbound restore`.

use rowbound::{Error, Kind, Result, trash};

use crate::{
    args::{Args, NameArgs},
    exit, output,
};

pub async fn restore(args: &Args, a: &NameArgs) -> Result<u8> {
    let (plan, db) = super::open(args).await?;
    let storage_name = super::storage(&plan, a.storage.as_deref())?;
    let name = super::name(&a.name, plan.storages[storage_name].location.names())?;
    let storage = rowbound::storage::open(&plan.storages[storage_name])?;
    let record = db
        .installation()
        .await?
        .ok_or_else(|| Error::new(Kind::NotAttached, "Rowbound is not attached to this database").hint("rowbound attach"))?;
    if let Some(id) = record.storages.get(storage_name) {
        storage.expect(id);
    }
    let file = trash::restore(db.as_ref(), storage_name, storage.as_ref(), &name).await?;
    output::answer(args.format, &file, |f| {
        format!(
            "restored {} ({}). It stays until a row names it and lets go of it again.",
            output::safe(f.name.as_str()),
            output::bytes(f.size)
        )
    })?;
    db.close().await;
    Ok(exit::DONE)
}
