//! `rowbound demo`.

use rowbound::Result;

use crate::{args::DemoArgs, exit};

pub async fn demo(_: &DemoArgs) -> Result<u8> {
    Ok(exit::DONE)
}
