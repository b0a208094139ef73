//! JPEG, by libjpeg-turbo; or, without C code, by jpeg-decoder.

use crate::error::Result;
use crate::header::jpeg::Jpeg;
use crate::limits::Limits;
use crate::raster::{Mode, Raster};

pub(crate) fn decode(jpeg: &Jpeg<'_>, target: Option<(u32, u32)>, limits: &Limits) -> Result<Raster> {
    let size = (jpeg.width, jpeg.height);
    let mode = match jpeg.components {
        1 => Mode::Gray,
        4 => Mode::Cmyk,
        _ => Mode::Rgb,
    };
    let scale = codec::scale(jpeg, scale(size, target));
    let pixels = f64::from(size.0) * f64::from(size.1);
    // A progressive picture's coefficients, two bytes each, are held until its last scan.
    let coefficients = if jpeg.progressive { (pixels * jpeg.samples_per_pixel * 2.0) as u64 } else { 0 };
    let planes = (pixels * jpeg.samples_per_pixel * codec::PLANES) as u64 / u64::from(scale * scale);
    limits.check_memory(super::shrunk_bytes(size, scale, mode) + coefficients + planes)?;
    codec::decode(jpeg, mode, scale)
}

/// The denominator of the scale at which blocks are transformed: 1, 2, 4 or 8; those are the fast ones. The result is at least twice as large as the target,
/// which costs 15 % more time than decoding to the target's size, and gives what a full decoding gives: within 0.1 dB, where the target's size itself loses up to 0.9.
fn scale(size: (u32, u32), target: Option<(u32, u32)>) -> u32 {
    let factor = crate::shrink::factor(size, target);
    [8, 4, 2].into_iter().find(|&scale| scale <= factor).unwrap_or(1)
}

/// A scaled picture and the part of it that the whole one covers: at its right and lower edge a pixel may be part padding.
fn raster(jpeg: &Jpeg<'_>, mode: Mode, scale: u32, mut pixels: Vec<u8>) -> Result<Raster> {
    if mode == Mode::Cmyk && jpeg.adobe {
        pixels.iter_mut().for_each(|ink| *ink = 255 - *ink);
    }
    let covered = (f64::from(jpeg.width) / f64::from(scale), f64::from(jpeg.height) / f64::from(scale));
    Ok(Raster::new(jpeg.width.div_ceil(scale), jpeg.height.div_ceil(scale), mode, pixels)?.standing_for((jpeg.width, jpeg.height), covered))
}

#[cfg(feature = "turbo")]
mod codec {
    use turbojpeg::{Decompressor, Image, PixelFormat, ScalingFactor};

    use super::*;
    use crate::error::Error;

    /// Rows become pixels as they come.
    pub(super) const PLANES: f64 = 0.0;

    /// Where chroma has fewer samples, libjpeg scales it less.
    pub(super) fn scale(_: &Jpeg<'_>, scale: u32) -> u32 {
        scale
    }

    /// Whether what libjpeg warned of last means that pixels were made up. Some cameras pad the data, and libjpeg then counts bytes before the end
    /// marker; but it counts them after a damage too, when it lost its place, and only its last warning is known.
    fn harmless(warning: &str, bytes: &[u8]) -> bool {
        if warning.contains("Unknown Adobe color transform code") {
            return true;
        }
        let Some(count) = warning.split("Corrupt JPEG data: ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<usize>().ok()) else {
            return false;
        };
        let data = &bytes[..bytes.len().saturating_sub(2)];
        let padding = &data[data.len().saturating_sub(count)..];
        warning.contains("extraneous bytes before marker 0xd9") && padding.iter().all(|byte| Some(byte) == padding.first())
    }

    pub(super) fn decode(jpeg: &Jpeg<'_>, mode: Mode, scale: u32) -> Result<Raster> {
        let mut decompressor = Decompressor::new().map_err(Error::damaged)?;
        decompressor.set_scaling_factor(ScalingFactor::new(1, scale as usize)).map_err(Error::damaged)?;
        let (width, height) = (jpeg.width.div_ceil(scale) as usize, jpeg.height.div_ceil(scale) as usize);
        let pitch = width * mode.channels();
        let mut pixels = vec![0; pitch * height];
        let format = match mode {
            Mode::Gray => PixelFormat::GRAY,
            Mode::Cmyk => PixelFormat::CMYK,
            Mode::Rgb | Mode::Rgba => PixelFormat::RGB,
        };
        let image = Image { pixels: pixels.as_mut_slice(), width, pitch, height, format };
        match decompressor.decompress(jpeg.bytes, image) {
            Ok(()) => {}
            Err(error) => {
                let error = error.to_string();
                if !harmless(&error, jpeg.bytes) {
                    return Err(if error.contains("remature end") { Error::truncated(error) } else { Error::damaged(error) });
                }
            }
        }
        raster(jpeg, mode, scale, pixels)
    }
}

#[cfg(not(feature = "turbo"))]
mod codec {
    // jpeg-decoder is in maintenance mode, and zune-jpeg is developed. But zune-jpeg 0.5 decodes the whole picture always: 69 MB where this takes 7 for a thumbnail of 24
    // megapixels, 138 instead of 77 where they are progressive; and it makes garbage, without a word, of components that come one after the other.
    use super::*;
    use crate::error::Error;

    /// Each component is decoded whole, a byte a sample, before they are put together.
    pub(super) const PLANES: f64 = 1.0;

    /// Chroma is scaled as luma is, whether it has fewer samples or not: half the scale keeps it at twice the target, too. Otherwise a thumbnail loses 0.2 dB.
    pub(super) fn scale(jpeg: &Jpeg<'_>, scale: u32) -> u32 {
        let fewer = jpeg.samples_per_pixel < f64::from(jpeg.components);
        if fewer { (scale / 2).max(1) } else { scale }
    }

    pub(super) fn decode(jpeg: &Jpeg<'_>, mode: Mode, scale: u32) -> Result<Raster> {
        let mut decoder = jpeg_decoder::Decoder::new(jpeg.bytes);
        decoder.read_info().map_err(Error::damaged)?;
        let side = |side: u32| u16::try_from(side.div_ceil(scale)).unwrap_or(u16::MAX);
        let size = (side(jpeg.width), side(jpeg.height));
        // Asked for the whole of a line of pixels, it would scale that.
        if scale > 1 && decoder.scale(size.0, size.1).map_err(Error::damaged)? != size {
            return decode(jpeg, mode, 1);
        }
        let mut pixels = decoder.decode().map_err(Error::damaged)?;
        // Inks come as Adobe means them, whoever wrote them.
        if mode == Mode::Cmyk {
            pixels.iter_mut().for_each(|ink| *ink = 255 - *ink);
        }
        raster(jpeg, mode, scale, pixels)
    }
}
