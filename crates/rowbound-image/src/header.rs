//! What a picture says of itself.
//!
//! In: bytes. Out: a [`Header`], or the error that keeps the picture from being decoded. No pixel is decoded and no claim of the bytes
//! leads to an allocation. The parsers walk over the whole structure of the file as far as that costs nothing (marker by marker, chunk by chunk), so
//! a file that is cut off is found here and not after seconds of decoding.

pub(crate) mod jpeg;
pub(crate) mod png;
pub(crate) mod webp;

use std::io::Cursor;

use image::ImageDecoder;

use crate::error::{Error, Kind, Result};
use crate::exif::{self, Orientation};
use crate::format::Format;
use crate::limits::Limits;

/// What [`probe`] finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Header {
    /// The format that the bytes show.
    pub format: Format,
    /// The width as stored, in pixels. See [`Header::upright`].
    pub width: u32,
    /// The height as stored, in pixels.
    pub height: u32,
    /// How the stored pixels have to be turned.
    pub orientation: Orientation,
    /// Whether it has several frames (GIF, WebP, APNG). Only the first is ever used.
    pub animated: bool,
    /// Whether it has a colour profile.
    pub profile: bool,
}

impl Header {
    /// Width and height as the picture is looked at, in pixels.
    pub fn upright(&self) -> (u32, u32) {
        self.orientation.turn((self.width, self.height))
    }
}

/// Reads a picture's header and checks it against the limits: what passes here can be decoded without surprise, though its pixels may
/// still turn out to be damaged.
///
/// ```
/// use rowbound_image::{probe, Format, Limits};
/// let gif = b"GIF89a\x03\0\x02\0\0\0\0;";
/// let header = probe(gif, &Limits::default())?;
/// assert_eq!((header.format, header.width, header.height), (Format::Gif, 3, 2));
/// # Ok::<(), rowbound_image::Error>(())
/// ```
///
/// # Errors
///
/// [`Kind::Unrecognised`], [`Kind::Truncated`], [`Kind::Damaged`], [`Kind::TooLarge`] or [`Kind::Unsupported`].
pub fn probe(bytes: &[u8], limits: &Limits) -> Result<Header> {
    Ok(read(bytes, limits)?.header())
}

/// A header with what its decoder wants to know beyond it.
pub(crate) enum Parsed<'a> {
    Jpeg(jpeg::Jpeg<'a>),
    Png(png::Png<'a>),
    WebP(webp::WebP<'a>),
    Other(Header),
}

impl Parsed<'_> {
    pub(crate) fn header(&self) -> Header {
        match self {
            Parsed::Jpeg(jpeg) => jpeg.header(),
            Parsed::Png(png) => png.header,
            Parsed::WebP(webp) => webp.header,
            Parsed::Other(header) => *header,
        }
    }
}

pub(crate) fn read<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Parsed<'a>> {
    if bytes.is_empty() {
        return Err(Error::new(Kind::Unrecognised, "not a picture: there are no bytes").hint("the upload was empty"));
    }
    let format = Format::sniff(bytes).ok_or_else(|| {
        Error::new(Kind::Unrecognised, "not a picture: its first bytes are those of no known format")
            .hint("JPEG, PNG, WebP, GIF, TIFF and BMP are read; the name of a file says nothing about what is in it")
    })?;
    let parsed = match format {
        Format::Jpeg => Parsed::Jpeg(jpeg::read(bytes, limits)?),
        Format::Png => Parsed::Png(png::read(bytes, limits)?),
        Format::WebP => Parsed::WebP(webp::read(bytes, limits)?),
        Format::Gif => Parsed::Other(gif(bytes)?),
        Format::Bmp => Parsed::Other(bmp(bytes)?),
        Format::Tiff => Parsed::Other(tiff(bytes)?),
        Format::Avif => return Err(Error::unsupported("AVIF is not read")),
    };
    let header = parsed.header();
    limits.check_size(header.width, header.height)?;
    Ok(parsed)
}

fn plain(format: Format, width: u32, height: u32) -> Header {
    Header { format, width, height, orientation: Orientation::Normal, animated: false, profile: false }
}

/// The logical screen is what Pillow and browsers show. Frames are counted as far as the second.
fn gif(bytes: &[u8]) -> Result<Header> {
    let cut = || Error::truncated("a GIF without its header");
    let size = |at: usize| Some(u32::from(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?)));
    let mut header = plain(Format::Gif, size(6).ok_or_else(cut)?, size(8).ok_or_else(cut)?);
    header.animated = gif_frames(bytes) > 1;
    Ok(header)
}

/// 0, 1 or 2, which stands for more.
fn gif_frames(bytes: &[u8]) -> u32 {
    let table = |flags: u8| if flags & 0x80 == 0 { 0 } else { 3usize << ((flags & 7) + 1) };
    // Blocks of at most 255 bytes, up to an empty one.
    let skip = |mut at: usize| {
        while let Some(&length) = bytes.get(at) {
            at += 1 + usize::from(length);
            if length == 0 {
                return Some(at);
            }
        }
        None
    };
    let mut frames = 0;
    let mut next = bytes.get(10).map(|&flags| 13 + table(flags));
    while let Some(at) = next {
        next = match bytes.get(at) {
            Some(0x2c) => {
                frames += 1;
                if frames > 1 {
                    break;
                }
                bytes.get(at + 9).and_then(|&flags| skip(at + 10 + table(flags) + 1))
            }
            Some(0x21) => skip(at + 2),
            _ => None,
        };
    }
    frames
}

/// BITMAPCOREHEADER has 16 bits a side, all later ones 32, the height negative where rows go from top to bottom.
fn bmp(bytes: &[u8]) -> Result<Header> {
    let cut = || Error::truncated("a BMP without its header");
    let long = |at: usize| Some(i32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let short = |at: usize| Some(u32::from(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?)));
    let (width, height) = if long(14).ok_or_else(cut)? == 12 {
        (short(18).ok_or_else(cut)?, short(20).ok_or_else(cut)?)
    } else {
        (long(18).ok_or_else(cut)?.unsigned_abs(), long(22).ok_or_else(cut)?.unsigned_abs())
    };
    Ok(plain(Format::Bmp, width, height))
}

fn tiff(bytes: &[u8]) -> Result<Header> {
    let mut decoder = image::codecs::tiff::TiffDecoder::new(Cursor::new(bytes)).map_err(crate::decode::other::error)?;
    let (width, height) = decoder.dimensions();
    let mut header = plain(Format::Tiff, width, height);
    header.orientation = match decoder.orientation() {
        Ok(orientation) => Orientation::from_exif(u16::from(orientation.to_exif())).unwrap_or_default(),
        Err(_) => exif::orientation(bytes),
    };
    header.profile = decoder.icc_profile().ok().flatten().is_some();
    Ok(header)
}
