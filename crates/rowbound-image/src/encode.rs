//! From pixels to bytes.
//!
//! In: a finished picture, a format, options. Out: a file with nothing but the picture: no EXIF, no position, no comment, and no colour profile unless it was
//! asked for.

use std::io::Cursor;

use image::codecs::{bmp::BmpEncoder, gif::GifEncoder, tiff::TiffEncoder};
use image::{ExtendedColorType, ImageEncoder, RgbaImage};

use crate::error::{Error, Result};
use crate::format::Format;
use crate::raster::{Finished, Mode};

/// How to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Options {
    pub(crate) quality: Option<u8>,
    pub(crate) progressive: bool,
    pub(crate) lossless: bool,
    pub(crate) keep_profile: bool,
}

impl Options {
    /// 1 to 100. Pillow's defaults: 75 for JPEG and AVIF, 80 for WebP.
    fn quality_for(&self, format: Format) -> u8 {
        self.quality.unwrap_or(if format == Format::WebP { 80 } else { 75 }).clamp(1, 100)
    }
}

/// Formats whose encoders here write a profile.
pub(crate) fn writes_profile(format: Format) -> bool {
    matches!(format, Format::Jpeg | Format::Png | Format::WebP)
}

pub(crate) fn encode(picture: &Finished, format: Format, options: &Options) -> Result<Vec<u8>> {
    let most = match format {
        Format::Jpeg | Format::Gif | Format::Avif => 65_535,
        Format::WebP => 16_383,
        Format::Png | Format::Tiff | Format::Bmp => u32::MAX,
    };
    if picture.width > most || picture.height > most {
        let (width, height) = (picture.width, picture.height);
        return Err(Error::new(
            crate::Kind::Unsupported,
            format!("{format} has no pictures of {width}x{height} pixels: {most} a side at most"),
        )
        .hint("make it smaller with a processor, or choose another format"));
    }
    match format {
        Format::Jpeg => jpeg(picture, options),
        Format::Png => png(picture),
        Format::WebP => webp(picture, options),
        Format::Avif => avif(picture, options),
        Format::Gif => gif(picture),
        Format::Tiff => {
            with_image(picture, |pixels, color, file| TiffEncoder::new(file).write_image(pixels, picture.width, picture.height, color))
        }
        Format::Bmp => {
            with_image(picture, |pixels, color, file| BmpEncoder::new(file).write_image(pixels, picture.width, picture.height, color))
        }
    }
}

fn jpeg(picture: &Finished, options: &Options) -> Result<Vec<u8>> {
    let rgb;
    let (pixels, gray) = if picture.mode == Mode::Gray {
        (picture.pixels.as_slice(), true)
    } else {
        rgb = picture.rgb();
        (&*rgb, false)
    };
    let mut file = codec::jpeg(pixels, gray, picture, options.quality_for(Format::Jpeg), options.progressive)?;
    if let Some(profile) = &picture.profile {
        insert_profile(&mut file, profile);
    }
    Ok(file)
}

/// Puts a colour profile behind the first segment (JFIF's), in numbered parts (ICC.1, annex B.4).
fn insert_profile(file: &mut Vec<u8>, profile: &[u8]) {
    const PART: usize = 65_519;
    let count = profile.len().div_ceil(PART);
    // 255 parts are 16 MB; no limit lets that through.
    let Ok(count8) = u8::try_from(count) else { return };
    let at = match file.as_slice() {
        [0xff, 0xd8, 0xff, 0xe0, high, low, ..] => 4 + usize::from(u16::from_be_bytes([*high, *low])),
        _ => 2,
    };
    let mut segments = Vec::with_capacity(profile.len() + count * 18);
    for (number, part) in (1..=count8).zip(profile.chunks(PART)) {
        segments.extend_from_slice(&[0xff, 0xe2]);
        segments.extend_from_slice(&((part.len() + 16) as u16).to_be_bytes());
        segments.extend_from_slice(b"ICC_PROFILE\0");
        segments.extend_from_slice(&[number, count8]);
        segments.extend_from_slice(part);
    }
    file.splice(at..at, segments);
}

fn png(picture: &Finished) -> Result<Vec<u8>> {
    let failed = |error: png::EncodingError| Error::new(crate::Kind::Unsupported, format!("writing the PNG failed: {error}"));
    let mut file = Vec::new();
    let mut info = png::Info::with_size(picture.width, picture.height);
    info.bit_depth = png::BitDepth::Eight;
    info.color_type = match picture.mode {
        Mode::Gray => png::ColorType::Grayscale,
        Mode::Rgba => png::ColorType::Rgba,
        Mode::Rgb | Mode::Cmyk => png::ColorType::Rgb,
    };
    info.icc_profile = picture.profile.as_deref().map(Into::into);
    let mut writer = png::Encoder::with_info(&mut file, info).and_then(|encoder| encoder.write_header()).map_err(failed)?;
    writer.write_image_data(&picture.pixels).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(file)
}

fn webp(picture: &Finished, options: &Options) -> Result<Vec<u8>> {
    let rgb;
    let pixels = if picture.mode == Mode::Rgba {
        picture.pixels.as_slice()
    } else {
        rgb = picture.rgb();
        &*rgb
    };
    let file = codec::webp(pixels, picture, options.quality_for(Format::WebP), options.lossless)?;
    Ok(match &picture.profile {
        Some(profile) => webp_with_profile(&file, picture, profile),
        None => file,
    })
}

/// Puts a WebP's chunks into the extended form, which can hold a profile (RFC 9649, 2.7).
fn webp_with_profile(file: &[u8], picture: &Finished, profile: &[u8]) -> Vec<u8> {
    use crate::header::webp::push;
    // The encoder's own extended header, if any, is replaced.
    let chunks = if file.get(12..16) == Some(b"VP8X") { &file[30..] } else { &file[12..] };
    let mut extended = [0; 10];
    extended[0] = 0x20 | if picture.mode == Mode::Rgba { 0x10 } else { 0 };
    extended[4..7].copy_from_slice(&(picture.width - 1).to_le_bytes()[..3]);
    extended[7..10].copy_from_slice(&(picture.height - 1).to_le_bytes()[..3]);
    let mut whole = b"RIFF\0\0\0\0WEBP".to_vec();
    push(&mut whole, b"VP8X", &extended);
    push(&mut whole, b"ICCP", profile);
    whole.extend_from_slice(chunks);
    let length = (whole.len() - 8) as u32;
    whole[4..8].copy_from_slice(&length.to_le_bytes());
    whole
}

/// A GIF has a palette, and pixels that are either there or not: half and more of opacity is there (pilkit's rule).
fn gif(picture: &Finished) -> Result<Vec<u8>> {
    let pixels: Vec<u8> = match picture.mode {
        Mode::Rgba => {
            picture.pixels.as_chunks::<4>().0.iter().flat_map(|&[r, g, b, a]| if a > 128 { [r, g, b, 255] } else { [0; 4] }).collect()
        }
        _ => picture.rgb().as_chunks::<3>().0.iter().flat_map(|&[r, g, b]| [r, g, b, 255]).collect(),
    };
    let frame = RgbaImage::from_raw(picture.width, picture.height, pixels)
        .ok_or_else(|| Error::new(crate::Kind::Unsupported, "writing the GIF failed: too few pixels"))?;
    let mut file = Vec::new();
    GifEncoder::new(&mut file).encode_frame(image::Frame::new(frame)).map_err(failed)?;
    Ok(file)
}

fn with_image(
    picture: &Finished,
    write: impl FnOnce(&[u8], ExtendedColorType, &mut Cursor<Vec<u8>>) -> image::ImageResult<()>,
) -> Result<Vec<u8>> {
    let mut file = Cursor::new(Vec::new());
    match picture.mode {
        Mode::Gray => write(&picture.pixels, ExtendedColorType::L8, &mut file),
        Mode::Rgba => write(&picture.pixels, ExtendedColorType::Rgba8, &mut file),
        Mode::Rgb | Mode::Cmyk => write(&picture.pixels, ExtendedColorType::Rgb8, &mut file),
    }
    .map_err(failed)?;
    Ok(file.into_inner())
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::new(crate::Kind::Unsupported, format!("writing the picture failed: {error}"))
}

#[cfg(feature = "avif")]
fn avif(picture: &Finished, options: &Options) -> Result<Vec<u8>> {
    // Speed 6 of 10 is Pillow's.
    let encoder = ravif::Encoder::new().with_quality(f32::from(options.quality_for(Format::Avif))).with_speed(6).with_num_threads(Some(1));
    let (width, height) = (picture.width as usize, picture.height as usize);
    let file = if picture.mode == Mode::Rgba {
        let pixels: Vec<_> = picture.pixels.as_chunks::<4>().0.iter().map(|&[r, g, b, a]| ravif::RGBA8::new(r, g, b, a)).collect();
        encoder.encode_rgba(ravif::Img::new(pixels.as_slice(), width, height))
    } else {
        let pixels: Vec<_> = picture.rgb().as_chunks::<3>().0.iter().map(|&[r, g, b]| ravif::RGB8::new(r, g, b)).collect();
        encoder.encode_rgb(ravif::Img::new(pixels.as_slice(), width, height))
    };
    Ok(file.map_err(failed)?.avif_file)
}

#[cfg(not(feature = "avif"))]
fn avif(_: &Finished, _: &Options) -> Result<Vec<u8>> {
    Err(Error::new(crate::Kind::Unsupported, "AVIF is not written: the feature is off")
        .hint("build rowbound-image with the feature `avif`"))
}

#[cfg(feature = "turbo")]
mod codec {
    use turbojpeg::{Compressor, Image, PixelFormat, Subsamp};

    use super::*;

    /// Optimised Huffman tables, chroma at half the size: what pilkit has Pillow write.
    pub(super) fn jpeg(pixels: &[u8], gray: bool, picture: &Finished, quality: u8, progressive: bool) -> Result<Vec<u8>> {
        let mut compressor = Compressor::new().map_err(failed)?;
        compressor.set_quality(quality.into()).map_err(failed)?;
        compressor.set_subsamp(if gray { Subsamp::Gray } else { Subsamp::Sub2x2 }).map_err(failed)?;
        compressor.set_optimize(true).map_err(failed)?;
        compressor.set_progressive(progressive).map_err(failed)?;
        let (width, height) = (picture.width as usize, picture.height as usize);
        let format = if gray { PixelFormat::GRAY } else { PixelFormat::RGB };
        let image = Image { pixels, width, pitch: width * format.size(), height, format };
        compressor.compress_to_vec(image).map_err(failed)
    }

    pub(super) fn webp(pixels: &[u8], picture: &Finished, quality: u8, lossless: bool) -> Result<Vec<u8>> {
        let (width, height) = (picture.width, picture.height);
        let encoder = if picture.mode == Mode::Rgba {
            webpx::Encoder::new_rgba(pixels, width, height)
        } else {
            webpx::Encoder::new_rgb(pixels, width, height)
        };
        encoder.quality(f32::from(quality)).lossless(lossless).encode(webpx::Unstoppable).map_err(failed)
    }
}

#[cfg(not(feature = "turbo"))]
mod codec {
    use super::*;

    /// Averaged chroma: the crate's default takes the nearest, which costs up to 2 dB. Optimised tables only for progressive ones: in others the crate
    /// then writes the components one after the other, of which many decoders, zune-jpeg's in `image` among them, make garbage.
    pub(super) fn jpeg(pixels: &[u8], gray: bool, picture: &Finished, quality: u8, progressive: bool) -> Result<Vec<u8>> {
        use jpeg_encoder::{ChromaSubsamplingMethod, ColorType, Encoder, SamplingFactor};
        let mut file = Vec::new();
        let mut encoder = Encoder::new(&mut file, quality);
        encoder.set_sampling_factor(SamplingFactor::F_2_2);
        encoder.set_chroma_subsampling_method(ChromaSubsamplingMethod::Average);
        encoder.set_optimized_huffman_tables(progressive);
        encoder.set_progressive(progressive);
        let color = if gray { ColorType::Luma } else { ColorType::Rgb };
        encoder.encode(pixels, picture.width as u16, picture.height as u16, color).map_err(failed)?;
        Ok(file)
    }

    /// image-webp writes without loss only: larger files, nothing else.
    pub(super) fn webp(pixels: &[u8], picture: &Finished, _quality: u8, _lossless: bool) -> Result<Vec<u8>> {
        let mut file = Vec::new();
        let color = if picture.mode == Mode::Rgba { image_webp::ColorType::Rgba8 } else { image_webp::ColorType::Rgb8 };
        image_webp::WebPEncoder::new(&mut file).encode(pixels, picture.width, picture.height, color).map_err(failed)?;
        Ok(file)
    }
}
