//! `cargo run --example blog -- [PORT] [FOLDER]`: the same program under a shorter name.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    rowbound_blog::program().await
}
