//! `rowbound thumbnail`.

use rowbound::Result;
#[cfg(not(feature = "images"))]
use rowbound::{Error, Kind};

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

/// Says what is missing: the codecs are C code, which wants cmake and nasm to build, and nothing else here does.
#[cfg(not(feature = "images"))]
pub async fn thumbnail(_: &Args, _: &ThumbnailArgs) -> Result<u8> {
    Err(Error::new(Kind::Config, "this rowbound was built without pictures").hint("cargo install rowbound-cli --features images"))
}

/// A size in pixels: `300x200`, `300x` or `x200`.
pub fn size(text: &str) -> std::result::Result<(Option<u32>, Option<u32>), String> {
    let side = |text: &str| match text {
        "" => Some(None),
        number => number.parse().ok().filter(|&n: &u32| n > 0).map(Some),
    };
    text.split_once('x')
        .and_then(|(width, height)| Some((side(width)?, side(height)?)))
        .filter(|size| *size != (None, None))
        .ok_or_else(|| "write WIDTHxHEIGHT in pixels, such as 300x200; one of them may be left out: 300x or x200".to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes_are_read() {
        assert_eq!(super::size("300x200"), Ok((Some(300), Some(200))));
        assert_eq!(super::size("300x"), Ok((Some(300), None)));
        assert_eq!(super::size("x200"), Ok((None, Some(200))));
        for wrong in ["", "x", "300", "0x3", "-1x3", "3x3x3", "3 x 3"] {
            assert!(super::size(wrong).is_err(), "{wrong}");
        }
    }
}
