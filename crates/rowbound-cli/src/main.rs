//! The `rowbound` command.
//!
//! `args` says what can be typed, `commands/` has one file per command, `hooks` calls commands and URLs, `output` prints, `exit` maps errors to statuses.
//! stdout is data, stderr is talk.

use std::process::ExitCode;

use clap::Parser;

mod args;
mod commands;
mod exit;
mod hooks;
mod logs;
mod output;

fn main() -> ExitCode {
    let args = args::Args::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("error: cannot start: {e}");
            return ExitCode::from(exit::UNREACHABLE);
        }
    };
    let format = args.format;
    match runtime.block_on(commands::run(&args)) {
        Ok(status) => ExitCode::from(status),
        Err(e) => {
            output::error(&e, commands::database_of(&e, &args), format);
            ExitCode::from(exit::status(&e))
        }
    }
}
