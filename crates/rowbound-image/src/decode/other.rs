//! GIF, TIFF and BMP, by the `image` crate. Always decoded whole.

use std::io::Cursor;

use image::codecs::{bmp::BmpDecoder, gif::GifDecoder, tiff::TiffDecoder};
use image::{ColorType, DynamicImage, ImageDecoder, ImageError};

use crate::error::{Error, Kind, Limit, Result};
use crate::format::Format;
use crate::limits::Limits;
use crate::raster::{Mode, Raster};

/// The picture, with its colour profile.
pub(crate) fn decode(bytes: &[u8], format: Format, target: Option<(u32, u32)>, limits: &Limits) -> Result<(Raster, Option<Vec<u8>>)> {
    let cursor = Cursor::new(bytes);
    match format {
        Format::Gif => whole(GifDecoder::new(cursor).map_err(error)?, target, limits),
        Format::Bmp => whole(BmpDecoder::new(cursor).map_err(error)?, target, limits),
        Format::Tiff => whole(TiffDecoder::new(cursor).map_err(error)?, target, limits),
        other => Err(Error::unsupported(format_args!("{other} is not read"))),
    }
}

fn whole(mut decoder: impl ImageDecoder, target: Option<(u32, u32)>, limits: &Limits) -> Result<(Raster, Option<Vec<u8>>)> {
    limits.check_size(decoder.dimensions().0, decoder.dimensions().1)?;
    // Once as decoded, once as ours.
    limits.check_memory(decoder.total_bytes().saturating_mul(2))?;
    let mut own = image::Limits::no_limits();
    own.max_alloc = Some(limits.memory);
    decoder.set_limits(own).map_err(error)?;
    let profile = decoder.icc_profile().ok().flatten().filter(|profile| profile.len() <= limits.metadata);
    let image = DynamicImage::from_decoder(decoder).map_err(error)?;
    let (size, (mode, pixels)) = ((image.width(), image.height()), plain(image));
    Ok((super::shrunk(&pixels, size, mode, target)?, profile))
}

/// Sixteen bits are scaled by the `image` crate.
fn plain(image: DynamicImage) -> (Mode, Vec<u8>) {
    match image.color() {
        ColorType::L8 | ColorType::L16 => (Mode::Gray, image.into_luma8().into_raw()),
        color if color.has_alpha() => (Mode::Rgba, image.into_rgba8().into_raw()),
        _ => (Mode::Rgb, image.into_rgb8().into_raw()),
    }
}

/// In our words.
pub(crate) fn error(error: ImageError) -> Error {
    match error {
        ImageError::Limits(e) => {
            Error::new(Kind::TooLarge(Limit::Memory), e.to_string()).hint("upload a smaller picture, or raise the limit in `Limits`")
        }
        ImageError::Unsupported(e) => Error::unsupported(e),
        ImageError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Error::truncated(e),
        other => Error::damaged(other),
    }
}
