//! What stands in `docs/` about applications, compiled; the examples lie beside this folder.

#[doc = include_str!("../../docs/axum.md")]
mod axum {}

#[doc = include_str!("../../docs/sqlx.md")]
mod sqlx {}

#[doc = include_str!("../../docs/diesel.md")]
mod diesel {}

#[doc = include_str!("../../docs/seaorm.md")]
mod seaorm {}
