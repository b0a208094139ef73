//! What handlers share: the rows and the files.

use sea_orm::DatabaseConnection;

use crate::files::Pictures;

/// The state of the router. Cheap to clone.
#[derive(Clone)]
pub struct App {
    pub db: DatabaseConnection,
    pub pictures: Pictures,
}
