//! `rowbound completions` and `rowbound man`.

use std::path::Path;

use clap::CommandFactory;
use rowbound::{Error, Kind, Result};

use crate::{args::Args, exit, output};

pub fn completions(shell: clap_complete::Shell) -> Result<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "rowbound", &mut text);
    output::print(&String::from_utf8_lossy(&text))?;
    Ok(exit::DONE)
}

pub fn man(out: Option<&Path>) -> Result<u8> {
    let wrong = |e: std::io::Error| Error::new(Kind::Config, "cannot write the man page").because(e);
    match out {
        Some(folder) => {
            let new = !folder.exists();
            std::fs::create_dir_all(folder).map_err(wrong)?;
            clap_mangen::generate_to(Args::command(), folder).map_err(wrong)?;
            if new {
                rowbound::owner::give_all_to_folder(folder).map_err(wrong)?;
                return Ok(exit::DONE);
            }
            for entry in std::fs::read_dir(folder).map_err(wrong)? {
                let page = entry.map_err(wrong)?;
                if page.file_name().to_string_lossy().starts_with("rowbound") {
                    rowbound::owner::give_all_to_folder(&page.path()).map_err(wrong)?;
                }
            }
        }
        None => {
            let mut text = Vec::new();
            clap_mangen::Man::new(Args::command()).render(&mut text).map_err(wrong)?;
            output::print(&String::from_utf8_lossy(&text))?;
        }
    }
    Ok(exit::DONE)
}
