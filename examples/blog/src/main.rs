//! `cargo run -p rowbound-blog -- [PORT] [FOLDER]`

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    rowbound_blog::program().await
}
