//! A worker's health, for those who watch the application.
//!
//! In: the [`Worker`] in the router's state. Out: its [`Health`] as JSON, with a status that says whether a person should look.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{StatusCode, header},
    response::Response,
};
use rowbound_files::{Health, Worker};

/// Answers with the [`Health`] of the application's [`Worker`]: 200 as long as files are collected, by this process or by another one, else 503. It tells
/// folders, tables and hosts: put it where only those come who run the application. A restart of the application mends nothing that makes it 503.
///
/// ```
/// use std::sync::Arc;
///
/// use axum::{Router, routing::get};
/// use rowbound_files::Worker;
///
/// fn internal(worker: Arc<Worker>) -> Router {
///     Router::new().route("/internal/files", get(rowbound_web::health)).with_state(worker)
/// }
/// ```
pub async fn health(State(worker): State<Arc<Worker>>) -> Response {
    answer(&worker.health().await)
}

fn answer(health: &Health) -> Response {
    let (status, body) = match serde_json::to_vec(health) {
        Ok(body) if health.is_well() => (StatusCode::OK, body),
        Ok(body) => (StatusCode::SERVICE_UNAVAILABLE, body),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, Vec::new()),
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}
