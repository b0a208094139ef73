//! `rowbound thumbnail`.

use rowbound::Result;

use crate::args::{Args, ThumbnailArgs};

#[cfg(feature = "images")]
mod make; // files -> smaller pictures, several at once

/// Makes the pictures.
#[cfg(feature = "images")]
pub async fn thumbnail(args: &Args, a: &ThumbnailArgs) -> Result<u8> {
    let stop = super::stop_signal()?;
    let plan = make::Plan::new(a)?;
    let progress = crate::logs::Progress::new();
    let made = tokio::task::block_in_place(|| plan.run(&progress, &stop));
    progress.end();
    crate::output::answer(args.format, &made, make::Made::text)?;
    Ok(if made.failed.is_empty() && made.left.is_empty() { crate::exit::DONE } else { crate::exit::LEFT })
}

#[cfg(not(feature = "images"))]
pub async fn thumbnail(_: &Args, _: &ThumbnailArgs) -> Result<u8> {
    Err(super::pictures::missing())
}
