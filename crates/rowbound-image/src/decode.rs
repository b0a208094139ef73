//! From bytes to pixels.
//!
//! In: bytes, their header, and the size to which the first processor will resize. Out: a [`Raster`], decoded as small as twice that size
//! allows. Before anything is allocated its size is estimated from the header and checked against [`Limits::memory`].

mod jpeg;
pub(crate) mod other;
mod png;
mod webp;

use crate::error::Result;
use crate::exif::Orientation;
use crate::header::Parsed;
use crate::limits::Limits;
use crate::raster::{Mode, Raster};
use crate::shrink::Shrinker;

/// Decodes a picture. `target` is the size, upright, to which it will be resized; `None` where all its pixels are wanted.
pub(crate) fn decode(
    bytes: &[u8],
    parsed: Parsed<'_>,
    orientation: Orientation,
    target: Option<(u32, u32)>,
    limits: &Limits,
) -> Result<Raster> {
    let target = target.map(|target| orientation.turn(target));
    let (raster, profile) = match parsed {
        Parsed::Jpeg(jpeg) => (jpeg::decode(&jpeg, target, limits)?, jpeg.profile.map(|p| p.into_owned())),
        Parsed::Png(png) => (png::decode(&png, target, limits)?, png.profile.map(|p| p.into_owned())),
        Parsed::WebP(webp) => (webp::decode(&webp, target, limits)?, webp.profile.map(<[u8]>::to_vec)),
        Parsed::Other(header) => other::decode(bytes, header.format, target, limits)?,
    };
    Ok(raster.with(orientation, profile, *limits))
}

/// What a shrunk picture of a size takes, in bytes.
fn shrunk_bytes((width, height): (u32, u32), factor: u32, mode: Mode) -> u64 {
    u64::from(width.div_ceil(factor)) * u64::from(height.div_ceil(factor)) * mode.channels() as u64
}

/// Shrinks what was decoded whole.
fn shrunk(pixels: &[u8], size: (u32, u32), mode: Mode, target: Option<(u32, u32)>) -> Result<Raster> {
    let mut shrinker = Shrinker::new(mode, size.0, size.1, crate::shrink::factor(size, target));
    for row in pixels.chunks_exact(size.0 as usize * mode.channels()) {
        shrinker.row(row);
    }
    from_shrinker(shrinker, size, mode)
}

fn from_shrinker(shrinker: Shrinker, size: (u32, u32), mode: Mode) -> Result<Raster> {
    let ((width, height), covered, pixels) = shrinker.finish();
    Ok(Raster::new(width, height, mode, pixels)?.standing_for(size, covered))
}
