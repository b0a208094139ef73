//! The markers of a JPEG (ITU-T T.81, annex B), up to the first end of an image. What comes after that is not ours: a second picture
//! (MPF), an archive, nothing.

use std::borrow::Cow;

use crate::error::{Error, Result};
use crate::exif::{self, Orientation};
use crate::format::Format;
use crate::header::Header;
use crate::limits::Limits;

/// What a JPEG says of itself.
pub(crate) struct Jpeg<'a> {
    /// The picture without what follows it.
    pub(crate) bytes: &'a [u8],
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// 1 (gray), 3 or 4 (inks).
    pub(crate) components: u8,
    pub(crate) progressive: bool,
    /// Adobe writes inks inverted, and says so by its marker (Adobe Technical Note 5116).
    pub(crate) adobe: bool,
    /// Samples of all components per pixel: 1.5 for 4:2:0.
    pub(crate) samples_per_pixel: f64,
    pub(crate) orientation: Orientation,
    pub(crate) profile: Option<Cow<'a, [u8]>>,
}

impl Jpeg<'_> {
    pub(crate) fn header(&self) -> Header {
        Header {
            format: Format::Jpeg,
            width: self.width,
            height: self.height,
            orientation: self.orientation,
            animated: false,
            profile: self.profile.is_some(),
        }
    }
}

/// Walks over the markers. The size is checked as soon as it is known.
pub(crate) fn read<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Jpeg<'a>> {
    let mut jpeg = Jpeg {
        bytes,
        width: 0,
        height: 0,
        components: 0,
        progressive: false,
        adobe: false,
        samples_per_pixel: 3.0,
        orientation: Orientation::Normal,
        profile: None,
    };
    let mut profile = Vec::new();
    let mut seen_exif = false;
    let mut scans = 0;
    let mut coded = 0;
    let mut at = 2;
    loop {
        let (marker, after) = next_marker(bytes, at).ok_or_else(|| Error::truncated("a JPEG without its end"))?;
        at = after;
        match marker {
            0xd9 => break,
            // Markers without a length: TEM, RSTn, a second SOI (which libjpeg refuses too).
            0x01 | 0xd0..=0xd7 => continue,
            0xd8 => return Err(Error::damaged("a JPEG begins within a JPEG")),
            _ => {}
        }
        let segment = segment(bytes, at).ok_or_else(|| Error::truncated("a JPEG's segment goes beyond the end"))?;
        at += 2 + segment.len();
        match marker {
            0xc0..=0xc2 => frame(&mut jpeg, marker, segment, limits)?,
            0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                return Err(Error::unsupported("a JPEG that is lossless, hierarchical or arithmetic-coded is not read"));
            }
            0xda => {
                if jpeg.components == 0 {
                    return Err(Error::damaged("a JPEG's scan comes before its frame"));
                }
                scans += 1;
                limits.check_scans(scans, u64::from(jpeg.width) * u64::from(jpeg.height))?;
                let end = scan_end(bytes, at);
                coded += end - at;
                at = end;
            }
            0xe1 if !seen_exif && segment.starts_with(b"Exif\0\0") => {
                seen_exif = true;
                limits.check_metadata("EXIF record", segment.len())?;
                jpeg.orientation = exif::orientation(segment);
            }
            0xe2 if segment.starts_with(b"ICC_PROFILE\0") && segment.len() > 14 => {
                profile.push((segment[12], &segment[14..]));
                limits.check_metadata("colour profile", profile.iter().map(|(_, part)| part.len()).sum())?;
            }
            0xee if segment.starts_with(b"Adobe") => jpeg.adobe = true,
            _ => {}
        }
    }
    if scans == 0 {
        return Err(Error::damaged("a JPEG without a scan"));
    }
    // Each block of 8x8 samples costs at least one bit in its component's first scan: what has fewer is cut off, or made to keep us busy.
    let blocks = f64::from(jpeg.width) * f64::from(jpeg.height) * jpeg.samples_per_pixel / 64.0;
    if (coded as f64) * 8.0 < blocks {
        return Err(Error::truncated("a JPEG with fewer bits than blocks"));
    }
    jpeg.bytes = &bytes[..at];
    jpeg.profile = joined(profile);
    Ok(jpeg)
}

/// The next marker at or after a place, and the place after it. Bytes between segments are skipped, as libjpeg does.
fn next_marker(bytes: &[u8], mut at: usize) -> Option<(u8, usize)> {
    loop {
        at += bytes.get(at..)?.iter().position(|&byte| byte == 0xff)?;
        match bytes.get(at + 1)? {
            0xff => at += 1,
            0 => at += 2,
            &marker => return Some((marker, at + 2)),
        }
    }
}

/// A segment's content: its length, which counts itself, stands in front.
fn segment(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let length = usize::from(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    bytes.get(at + 2..at.checked_add(length)?)
}

/// Where the coded data of a scan ends: at a marker that is neither a stuffed zero nor a restart.
fn scan_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(found) = bytes[at..].iter().position(|&byte| byte == 0xff) {
        at += found;
        match bytes.get(at + 1) {
            Some(0 | 0xd0..=0xd7) => at += 2,
            Some(0xff) => at += 1,
            _ => return at,
        }
    }
    bytes.len()
}

/// SOF0, SOF1, SOF2.
fn frame(jpeg: &mut Jpeg<'_>, marker: u8, segment: &[u8], limits: &Limits) -> Result<()> {
    if jpeg.components != 0 {
        return Err(Error::damaged("a JPEG with two frames"));
    }
    let &[precision, h1, h0, w1, w0, components, ..] = segment else {
        return Err(Error::truncated("a JPEG without its frame header"));
    };
    jpeg.width = u32::from(u16::from_be_bytes([w1, w0]));
    jpeg.height = u32::from(u16::from_be_bytes([h1, h0]));
    jpeg.progressive = marker == 0xc2;
    limits.check_size(jpeg.width, jpeg.height)?;
    if precision != 8 {
        return Err(Error::unsupported(format_args!("a JPEG with {precision} bits a sample is not read")));
    }
    if !matches!(components, 1 | 3 | 4) {
        return Err(Error::unsupported(format_args!("a JPEG with {components} components is not read")));
    }
    jpeg.components = components;
    let factors: Vec<(u8, u8)> = segment[6..].chunks_exact(3).take(components.into()).map(|c| (c[1] >> 4, c[1] & 15)).collect();
    if factors.len() != usize::from(components) || factors.iter().any(|&(h, v)| !(1..=4).contains(&h) || !(1..=4).contains(&v)) {
        return Err(Error::damaged("a JPEG's sampling factors"));
    }
    let most = |side: fn(&(u8, u8)) -> u8| f64::from(factors.iter().map(side).max().unwrap_or(1));
    let whole = most(|f| f.0) * most(|f| f.1);
    jpeg.samples_per_pixel = factors.iter().map(|&(h, v)| f64::from(h) * f64::from(v) / whole).sum();
    Ok(())
}

/// A profile comes in numbered parts of at most 64 KiB (ICC.1, annex B.4).
fn joined(mut parts: Vec<(u8, &[u8])>) -> Option<Cow<'_, [u8]>> {
    parts.sort_by_key(|(number, _)| *number);
    match parts.as_slice() {
        [] => None,
        [(_, only)] => Some(Cow::Borrowed(only)),
        _ => Some(Cow::Owned(parts.iter().flat_map(|(_, part)| part.iter().copied()).collect())),
    }
}
