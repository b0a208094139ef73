//! JPEG, by libjpeg-turbo; or, without C code, by zune-jpeg and jpeg-decoder.

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
    let scale = scale(size, target);
    let pixels = f64::from(size.0) * f64::from(size.1);
    // A progressive picture's coefficients, two bytes each, are held until its last scan.
    let coefficients = if jpeg.progressive { (pixels * jpeg.samples_per_pixel * 2.0) as u64 } else { 0 };
    limits.check_memory(super::shrunk_bytes(size, scale, mode) + coefficients)?;
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
    use std::io::Cursor;

    use zune_jpeg::zune_core::colorspace::ColorSpace;
    use zune_jpeg::zune_core::options::DecoderOptions;

    use super::*;
    use crate::error::Error;

    /// zune-jpeg is the faster one but always decodes the whole; jpeg-decoder can scale. They meet at about 4 megapixels.
    const LARGE: u64 = 4_000_000;

    pub(super) fn decode(jpeg: &Jpeg<'_>, mode: Mode, scale: u32) -> Result<Raster> {
        let large = u64::from(jpeg.width) * u64::from(jpeg.height) > LARGE;
        if large && scale > 1 && !jpeg.progressive {
            return scaled(jpeg, mode, scale);
        }
        // zune-jpeg 0.5 makes garbage, and says nothing, of components that come one after the other, and of inks with fewer samples.
        let apart = !jpeg.progressive && jpeg.scans > 1;
        if apart || mode == Mode::Cmyk { scaled(jpeg, mode, 1) } else { whole(jpeg, mode) }
    }

    fn scaled(jpeg: &Jpeg<'_>, mode: Mode, scale: u32) -> Result<Raster> {
        let mut decoder = jpeg_decoder::Decoder::new(jpeg.bytes);
        decoder.read_info().map_err(Error::damaged)?;
        let (width, height) = (jpeg.width.div_ceil(scale), jpeg.height.div_ceil(scale));
        let side = |side: u32| u16::try_from(side).unwrap_or(u16::MAX);
        if scale > 1 && decoder.scale(side(width), side(height)).map_err(Error::damaged)? != (side(width), side(height)) {
            return decode(jpeg, mode, 1);
        }
        let mut pixels = decoder.decode().map_err(Error::damaged)?;
        // Inks come as Adobe means them, whoever wrote them.
        if mode == Mode::Cmyk {
            pixels.iter_mut().for_each(|ink| *ink = 255 - *ink);
        }
        raster(jpeg, mode, scale, pixels)
    }

    fn whole(jpeg: &Jpeg<'_>, mode: Mode) -> Result<Raster> {
        let to = match mode {
            Mode::Gray => ColorSpace::Luma,
            Mode::Cmyk => ColorSpace::CMYK,
            Mode::Rgb | Mode::Rgba => ColorSpace::RGB,
        };
        // The size was checked against our own limits.
        let options = DecoderOptions::new_fast()
            .set_strict_mode(true)
            .set_max_width(usize::from(u16::MAX))
            .set_max_height(usize::from(u16::MAX))
            .jpeg_set_out_colorspace(to);
        let mut decoder = zune_jpeg::JpegDecoder::new_with_options(Cursor::new(jpeg.bytes), options);
        let pixels = decoder.decode().map_err(|error| Error::damaged(format_args!("{error:?}")))?;
        raster(jpeg, mode, 1, pixels)
    }
}
