//! WebP, by libwebp; or, without C code, by image-webp.

use crate::error::Result;
use crate::header::webp::WebP;
use crate::limits::Limits;
use crate::raster::{Mode, Raster};
use crate::shrink;

pub(crate) fn decode(webp: &WebP<'_>, target: Option<(u32, u32)>, limits: &Limits) -> Result<Raster> {
    let size = (webp.header.width, webp.header.height);
    let mode = if webp.alpha { Mode::Rgba } else { Mode::Rgb };
    if let Some(raster) = codec::scaled(webp, size, mode, target, limits)? {
        return Ok(raster);
    }
    let (x, y, width, height) = webp.area;
    let bytes = u64::from(size.0) * u64::from(size.1) * mode.channels() as u64;
    limits.check_memory(bytes + super::shrunk_bytes(size, shrink::factor(size, target), mode))?;
    let pixels = codec::whole(webp, mode)?;
    if (width, height) == size {
        return super::shrunk(&pixels, size, mode, target);
    }
    let mut raster = Raster::new(width, height, mode, pixels)?;
    raster.place(size.0, size.1, x.into(), y.into(), [0; 4])?;
    Ok(raster)
}

#[cfg(feature = "turbo")]
mod codec {
    use webpx::{Decoder, DecoderConfig};

    use super::*;
    use crate::error::Error;

    /// libwebp shrinks while it decodes, by area. It does not multiply alpha in meanwhile: invisible colours would shine through.
    pub(super) fn scaled(
        webp: &WebP<'_>,
        size: (u32, u32),
        mode: Mode,
        target: Option<(u32, u32)>,
        limits: &Limits,
    ) -> Result<Option<Raster>> {
        let Some(target) = target.filter(|&target| mode == Mode::Rgb && shrink::factor(size, Some(target)) > 1) else {
            return Ok(None);
        };
        // The picture's proportions, at twice the target at least.
        let factor = (f64::from(size.0) / f64::from(2 * target.0)).min(f64::from(size.1) / f64::from(2 * target.1));
        let side = |side: u32| ((f64::from(side) / factor).round() as u32).clamp(1, side);
        let (width, height) = (side(size.0), side(size.1));
        limits.check_memory(u64::from(width) * u64::from(height) * 3)?;
        let pixels = decoder(webp)?.scale(width, height).decode_rgb_raw().map_err(error)?.0;
        let covered = (f64::from(width), f64::from(height));
        Ok(Some(Raster::new(width, height, mode, pixels)?.standing_for(size, covered)))
    }

    pub(super) fn whole(webp: &WebP<'_>, mode: Mode) -> Result<Vec<u8>> {
        let decoder = decoder(webp)?;
        let pixels = if mode == Mode::Rgba { decoder.decode_rgba_raw() } else { decoder.decode_rgb_raw() };
        Ok(pixels.map_err(error)?.0)
    }

    fn decoder<'a>(webp: &'a WebP<'_>) -> Result<Decoder<'a>> {
        // The size was checked against our own limits.
        Ok(Decoder::new(&webp.still).map_err(error)?.config(DecoderConfig::default().limits(webpx::Limits::none())))
    }

    fn error(error: impl std::fmt::Display) -> Error {
        Error::damaged(format_args!("a WebP: {error}"))
    }
}

#[cfg(not(feature = "turbo"))]
mod codec {
    use std::io::Cursor;

    use super::*;
    use crate::error::Error;

    pub(super) fn scaled(_: &WebP<'_>, _: (u32, u32), _: Mode, _: Option<(u32, u32)>, _: &Limits) -> Result<Option<Raster>> {
        Ok(None)
    }

    pub(super) fn whole(webp: &WebP<'_>, mode: Mode) -> Result<Vec<u8>> {
        let mut decoder = image_webp::WebPDecoder::new(Cursor::new(&*webp.still)).map_err(error)?;
        let mut pixels = vec![0; decoder.output_buffer_size().ok_or_else(|| error("its size"))?];
        decoder.read_image(&mut pixels).map_err(error)?;
        let (has, wants) = (decoder.has_alpha(), mode == Mode::Rgba);
        if has == wants {
            return Ok(pixels);
        }
        Ok(if has {
            pixels.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect()
        } else {
            pixels.chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], 255]).collect()
        })
    }

    fn error(error: impl std::fmt::Display) -> Error {
        Error::damaged(format_args!("a WebP: {error}"))
    }
}
