//! The chunks of a WebP (RFC 9649, section 2).

use std::borrow::Cow;

use crate::error::{Error, Result};
use crate::exif::{self, Orientation};
use crate::format::Format;
use crate::header::Header;
use crate::limits::Limits;

/// What a WebP says of itself.
pub(crate) struct WebP<'a> {
    pub(crate) header: Header,
    /// A WebP with nothing but the picture: the file itself, or one made of its first frame.
    pub(crate) still: Cow<'a, [u8]>,
    /// The size of the still picture and its place on the canvas: x, y, width, height, in pixels.
    pub(crate) area: (u32, u32, u32, u32),
    pub(crate) alpha: bool,
    pub(crate) profile: Option<&'a [u8]>,
}

/// Walks over the chunks.
pub(crate) fn read<'a>(bytes: &'a [u8], limits: &Limits) -> Result<WebP<'a>> {
    let cut = || Error::truncated("a WebP's chunks go beyond the end");
    let length = bytes.get(4..8).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes).ok_or_else(cut)?;
    let end = usize::try_from(length).ok().and_then(|length| length.checked_add(8)).ok_or_else(cut)?;
    let bytes = bytes.get(..end).ok_or_else(cut)?;
    let header = Header { format: Format::WebP, width: 0, height: 0, orientation: Orientation::Normal, animated: false, profile: false };
    let mut webp = WebP { header, still: Cow::Borrowed(bytes), area: (0, 0, 0, 0), alpha: false, profile: None };
    let mut canvas = None;
    let mut picture = None;
    let mut chunks = Chunks { bytes, at: 12 };
    for chunk in &mut chunks {
        let (name, data) = chunk.ok_or_else(cut)?;
        match name {
            b"VP8X" if data.len() >= 10 => {
                canvas = Some((long24(data, 4) + 1, long24(data, 7) + 1));
                webp.header.animated = data[0] & 0x02 != 0;
                webp.alpha |= data[0] & 0x10 != 0;
            }
            b"VP8 " | b"VP8L" if picture.is_none() => picture = Some(bitstream(name, data, &mut webp.alpha)?),
            b"ANMF" if picture.is_none() && data.len() > 16 => {
                let (still, width, height) = first_frame(data)?;
                webp.alpha = true;
                webp.area = (2 * long24(data, 0), 2 * long24(data, 3), width, height);
                webp.still = Cow::Owned(still);
                picture = Some((width, height));
            }
            b"EXIF" => {
                limits.check_metadata("EXIF record", data.len())?;
                webp.header.orientation = exif::orientation(data);
            }
            b"ICCP" => {
                limits.check_metadata("colour profile", data.len())?;
                webp.profile = Some(data);
            }
            _ => {}
        }
    }
    let picture = picture.ok_or_else(|| Error::damaged("a WebP without a picture"))?;
    let (width, height) = canvas.unwrap_or(picture);
    limits.check_size(width, height)?;
    limits.check_size(picture.0, picture.1)?;
    if webp.header.animated {
        let (x, y, w, h) = webp.area;
        if u64::from(x) + u64::from(w) > width.into() || u64::from(y) + u64::from(h) > height.into() {
            return Err(Error::damaged("a WebP's frame lies outside of its canvas"));
        }
    } else {
        if picture != (width, height) {
            return Err(Error::damaged("a WebP's canvas is not as large as its picture"));
        }
        webp.area = (0, 0, width, height);
    }
    (webp.header.width, webp.header.height) = (width, height);
    webp.header.profile = webp.profile.is_some();
    Ok(webp)
}

/// The size that a bitstream begins with (RFC 6386, 9.1; RFC 9649, 3.4).
fn bitstream(name: &[u8; 4], data: &[u8], alpha: &mut bool) -> Result<(u32, u32)> {
    if name == b"VP8L" {
        let &[0x2f, b0, b1, b2, b3, ..] = data else { return Err(Error::damaged("a WebP's lossless picture")) };
        let bits = u32::from_le_bytes([b0, b1, b2, b3]);
        *alpha |= bits >> 28 & 1 == 1;
        return Ok(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1));
    }
    let &[_, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1, ..] = data else { return Err(Error::damaged("a WebP's picture")) };
    Ok((u32::from(u16::from_le_bytes([w0, w1]) & 0x3fff), u32::from(u16::from_le_bytes([h0, h1]) & 0x3fff)))
}

/// A still WebP made of an animation's frame, with its size.
fn first_frame(data: &[u8]) -> Result<(Vec<u8>, u32, u32)> {
    let (width, height) = (long24(data, 6) + 1, long24(data, 9) + 1);
    let mut parts = Vec::new();
    let mut has_alpha = false;
    for chunk in (Chunks { bytes: data, at: 16 }) {
        let (name, content) = chunk.ok_or_else(|| Error::truncated("a WebP's frame"))?;
        match name {
            b"ALPH" => {
                has_alpha = true;
                push(&mut parts, name, content);
            }
            b"VP8 " | b"VP8L" => {
                if bitstream(name, content, &mut has_alpha)? != (width, height) {
                    return Err(Error::damaged("a WebP's frame has another size than its picture"));
                }
                push(&mut parts, name, content);
                let mut file = b"RIFF\0\0\0\0WEBP".to_vec();
                let mut extended = [0; 10];
                extended[0] = if has_alpha { 0x10 } else { 0 };
                extended[4..7].copy_from_slice(&(width - 1).to_le_bytes()[..3]);
                extended[7..10].copy_from_slice(&(height - 1).to_le_bytes()[..3]);
                push(&mut file, b"VP8X", &extended);
                file.extend_from_slice(&parts);
                let length = u32::try_from(file.len() - 8).map_err(|_| Error::damaged("a WebP's frame"))?;
                file[4..8].copy_from_slice(&length.to_le_bytes());
                return Ok((file, width, height));
            }
            _ => {}
        }
    }
    Err(Error::damaged("a WebP's frame without a picture"))
}

/// Appends a chunk: name, length, content, a byte to make it even.
pub(crate) fn push(file: &mut Vec<u8>, name: &[u8; 4], content: &[u8]) {
    file.extend_from_slice(name);
    file.extend_from_slice(&(content.len() as u32).to_le_bytes());
    file.extend_from_slice(content);
    if content.len() % 2 == 1 {
        file.push(0);
    }
}

fn long24(data: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([data[at], data[at + 1], data[at + 2], 0])
}

/// Name and content of each chunk; `None` for one that goes beyond the end.
struct Chunks<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Option<(&'a [u8; 4], &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.at..).filter(|rest| rest.len() >= 8)?;
        let chunk = || {
            let name = rest.get(..4)?.try_into().ok()?;
            let length = usize::try_from(u32::from_le_bytes(rest.get(4..8)?.try_into().ok()?)).ok()?;
            Some((name, rest.get(8..length.checked_add(8)?)?))
        };
        let chunk = chunk();
        self.at = match chunk {
            Some((_, data)) => self.at + 8 + data.len() + data.len() % 2,
            None => self.bytes.len(),
        };
        Some(chunk)
    }
}
