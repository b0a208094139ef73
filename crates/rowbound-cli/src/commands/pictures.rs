//! What `thumbnail` and `put` do with pictures.
//!
//! In: what was typed. Out: a pipeline, or why what was typed goes together with nothing. No IO.

#[cfg(feature = "images")]
use rowbound::Result;
use rowbound::{Error, Kind};
#[cfg(feature = "images")]
use rowbound_image::{Limits, Pipeline, processors as p};

#[cfg(feature = "images")]
use crate::args::pictures::{PictureArgs, Processor, Size};

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
