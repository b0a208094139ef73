//! What the program's start finds: every entity with files or signals.
//!
//! In: what the derives leave. Out: the entities, in an order that does not depend on the linker.

use std::sync::{Arc, LazyLock};

use crate::{
    entity::{AnyEntity, Of, Tracked},
    field::AnyField,
};

/// An entity, as its derive registers it.
#[derive(Debug)]
pub struct Registered {
    module: &'static str,
    entity: fn() -> Arc<dyn AnyEntity>,
}

impl Registered {
    /// The entity `E` of the module `module`.
    pub const fn of<E>(module: &'static str) -> Self
    where
        E: Tracked,
        E::Model: Sync,
    {
        Registered { module, entity: || Arc::new(Of::<E>::new()) }
    }
}

inventory::collect!(Registered);

/// Every entity of the program and its module, in the order of the modules' names: the linker's is none.
pub(crate) static ENTITIES: LazyLock<Vec<(&'static str, Arc<dyn AnyEntity>)>> = LazyLock::new(|| {
    let mut all: Vec<_> = inventory::iter::<Registered>().map(|r| (r.module, (r.entity)())).collect();
    all.sort_by_key(|(module, entity)| (*module, entity.name()));
    all
});

/// The declarations of every entity in a module, or beneath it; `None` means all.
pub(crate) fn fields(beneath: Option<&str>) -> Vec<AnyField> {
    let within = |module: &str| match beneath {
        None => true,
        Some(path) => module.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with("::")),
    };
    ENTITIES.iter().filter(|(module, _)| within(module)).flat_map(|(_, entity)| entity.files()).collect()
}
