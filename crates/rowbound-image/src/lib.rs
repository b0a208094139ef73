#![doc = include_str!("../README.md")]
// Modules stand in the order in which bytes travel.

mod error;
mod format;
mod limits;
mod exif;
mod header;
mod shrink;
mod color;
mod raster;
mod decode;
pub mod processors;
mod encode;
mod pipeline;

#[cfg(not(any(feature = "turbo", feature = "pure-rust")))]
compile_error!("rowbound-image needs one of the features `turbo` (libjpeg-turbo, libwebp) and `pure-rust`");

pub use error::{Error, Kind, Limit, Result};
pub use exif::Orientation;
pub use format::Format;
pub use header::{Header, probe};
pub use limits::Limits;
pub use pipeline::{Picture, Pipeline};
pub use raster::{Mode, Raster};

/// A small GIF for the examples of this documentation.
#[doc(hidden)]
pub fn doctest_picture() -> Vec<u8> {
    let picture = raster::Finished { width: 64, height: 48, mode: Mode::Rgb, pixels: [200, 120, 40].repeat(64 * 48), profile: None };
    encode::encode(&picture, Format::Gif, &encode::Options::default()).unwrap_or_default()
}
