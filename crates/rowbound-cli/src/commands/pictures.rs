//! What `thumbnail` and `put` do with pictures.
//!
//! In: what was typed. Out: a pipeline, or why what was typed goes together with nothing. No IO.

#[cfg(feature = "images")]
use rowbound::Result;
use rowbound::{Error, Kind};
#[cfg(feature = "images")]
use rowbound_image::{Limits, Pipeline, processors as p};

use crate::args::Size;
#[cfg(feature = "images")]
use crate::args::{PictureArgs, Processor};

/// Pictures above this are not read, in bytes.
#[cfg(feature = "images")]
pub const LARGEST: u64 = 512 << 20;

/// What is to be done with each picture.
///
/// # Errors
/// [`Kind::Config`] for options that do not go together.
#[cfg(feature = "images")]
pub fn pipeline(size: Option<Size>, a: &PictureArgs) -> Result<Pipeline> {
    let start = size.map_or_else(|| Ok(Pipeline::new()), |size| sized(size, a))?;
    let mut pipeline = start.limits(Limits::default()).progressive(a.progressive).keep_profile(a.keep_profile);
    if let Some(quality) = a.quality {
        pipeline = pipeline.quality(quality);
    }
    if let Some(format) = a.format_of_pictures {
        pipeline = pipeline.format(format);
    }
    Ok(pipeline)
}

#[cfg(feature = "images")]
fn sized(size: Size, a: &PictureArgs) -> Result<Pipeline> {
    let wrong = |what: String| Error::new(Kind::Config, what);
    let (width, height) = size;
    let both = || width.zip(height).ok_or_else(|| wrong(format!("{} needs both a width and a height", a.processor)));
    let anchor = match a.anchor.as_deref() {
        None => None,
        Some(_) if !matches!(a.processor, Processor::Thumbnail | Processor::ResizeToFill | Processor::Crop) => {
            return Err(wrong(format!("{} has no anchor", a.processor)));
        }
        Some(name) => Some(
            p::Anchor::from_name(name)
                .ok_or_else(|| wrong(format!("no such anchor: {name}")).hint("known are: tl, t, tr, l, c, r, bl, b, br"))?,
        ),
    };
    if a.upscale.is_some() && matches!(a.processor, Processor::Crop | Processor::SmartCrop) {
        return Err(wrong(format!("{} never enlarges", a.processor)));
    }
    let upscale = a.upscale.unwrap_or(a.processor != Processor::Thumbnail);
    let start = Pipeline::new();
    Ok(match a.processor {
        Processor::Thumbnail => {
            let mut thumbnail = match size {
                (Some(width), Some(height)) => p::Thumbnail::new(width, height),
                (Some(width), None) => p::Thumbnail::width(width),
                (_, height) => p::Thumbnail::height(height.unwrap_or(0)),
            };
            if let Some(anchor) = anchor {
                both()?;
                thumbnail = thumbnail.anchor(anchor);
            }
            start.then(thumbnail.upscale(upscale))
        }
        Processor::ResizeToFit => {
            let fit = match size {
                (Some(width), Some(height)) => p::ResizeToFit::new(width, height),
                (Some(width), None) => p::ResizeToFit::width(width),
                (_, height) => p::ResizeToFit::height(height.unwrap_or(0)),
            };
            start.then(fit.upscale(upscale))
        }
        Processor::Resize => {
            let (w, h) = both()?;
            start.then(p::Resize::new(w, h).upscale(upscale))
        }
        Processor::ResizeToFill => {
            let (w, h) = both()?;
            start.then(p::ResizeToFill::new(w, h).anchor(anchor.unwrap_or(p::Anchor::CENTER)).upscale(upscale))
        }
        Processor::ResizeToCover => {
            let (w, h) = both()?;
            start.then(p::ResizeToCover::new(w, h).upscale(upscale))
        }
        Processor::SmartResize => {
            let (w, h) = both()?;
            start.then(p::SmartResize::new(w, h).upscale(upscale))
        }
        Processor::Crop => {
            let (w, h) = both()?;
            start.then(p::Crop::new(w, h).anchor(anchor.unwrap_or(p::Anchor::CENTER)))
        }
        Processor::SmartCrop => {
            let (w, h) = both()?;
            start.then(p::SmartCrop::new(w, h))
        }
    })
}

/// Says what is missing: the codecs are C code, which wants cmake and nasm to build, and nothing else here does.
#[cfg(not(feature = "images"))]
pub fn missing() -> Error {
    Error::new(Kind::Config, "this rowbound was built without pictures").hint("cargo install rowbound-cli --features images")
}

/// A size in pixels: `300x200`, `300x` or `x200`.
pub fn size(text: &str) -> std::result::Result<Size, String> {
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
