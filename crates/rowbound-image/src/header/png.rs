//! The chunks of a PNG (W3C PNG, third edition, clause 5).

use std::borrow::Cow;
use std::io::Read;

use crate::error::{Error, Result};
use crate::exif::{self, Orientation};
use crate::format::Format;
use crate::header::Header;
use crate::limits::Limits;

/// What a PNG says of itself.
pub(crate) struct Png<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) header: Header,
    pub(crate) interlaced: bool,
    /// Bits of one pixel as stored.
    pub(crate) bits: u32,
    pub(crate) profile: Option<Cow<'a, [u8]>>,
}

/// Walks over the chunks, and unpacks nothing but the colour profile, as far as the limit for it.
pub(crate) fn read<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Png<'a>> {
    let mut chunks = Chunks { bytes, at: 8 };
    let (name, ihdr) = chunks.next().ok_or_else(|| Error::truncated("a PNG without its header"))?;
    let (b"IHDR", &[w3, w2, w1, w0, h3, h2, h1, h0, depth, colour, _, _, interlace]) = (name, ihdr) else {
        return Err(Error::damaged("a PNG that does not begin with its header"));
    };
    let (width, height) = (u32::from_be_bytes([w3, w2, w1, w0]), u32::from_be_bytes([h3, h2, h1, h0]));
    limits.check_size(width, height)?;
    let channels = match colour {
        0 | 3 => 1,
        4 => 2,
        2 => 3,
        6 => 4,
        _ => return Err(Error::damaged(format_args!("a PNG of colour type {colour}"))),
    };
    let mut png = Png {
        bytes,
        header: Header { format: Format::Png, width, height, orientation: Orientation::Normal, animated: false, profile: false },
        interlaced: interlace != 0,
        bits: channels * u32::from(depth),
        profile: None,
    };
    let mut coded: u64 = 0;
    let mut whole = false;
    for (name, data) in &mut chunks {
        match name {
            b"IDAT" => coded += data.len() as u64,
            b"acTL" => png.header.animated = true,
            b"eXIf" => {
                limits.check_metadata("EXIF record", data.len())?;
                png.header.orientation = exif::orientation(data);
            }
            b"iCCP" if png.profile.is_none() => png.profile = unpacked(data, limits)?.map(Cow::Owned),
            b"IEND" => {
                whole = true;
                break;
            }
            _ => {}
        }
    }
    if !whole {
        return Err(Error::truncated("a PNG without its end"));
    }
    // Deflate packs at most 1032 bytes into one (RFC 1951: 258 bytes for a length and a distance of one bit each).
    let raw = (u64::from(width) * u64::from(png.bits)).div_ceil(8) * u64::from(height);
    if coded.saturating_mul(1032) < raw {
        return Err(Error::truncated("a PNG with less data than its pixels need"));
    }
    png.header.profile = png.profile.is_some();
    Ok(png)
}

/// A profile with a name in front, packed.
fn unpacked(data: &[u8], limits: &Limits) -> Result<Option<Vec<u8>>> {
    let Some(end) = data.iter().position(|&byte| byte == 0) else { return Ok(None) };
    let Some(packed) = data.get(end + 2..) else { return Ok(None) };
    limits.check_metadata("colour profile", packed.len())?;
    let mut profile = Vec::new();
    let most = limits.metadata as u64 + 1;
    if flate2::read::ZlibDecoder::new(packed).take(most).read_to_end(&mut profile).is_err() {
        // A picture is not refused for a profile that cannot be read: it is shown without, as browsers do.
        return Ok(None);
    }
    limits.check_metadata("colour profile", profile.len())?;
    Ok(Some(profile))
}

struct Chunks<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Chunks<'a> {
    type Item = (&'a [u8; 4], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.at..)?;
        let length = usize::try_from(u32::from_be_bytes(rest.get(..4)?.try_into().ok()?)).ok()?;
        let name = rest.get(4..8)?.try_into().ok()?;
        let data = rest.get(8..length.checked_add(8)?)?;
        // The checksum after it must be there too; the decoder checks it.
        rest.get(length + 8..length + 12)?;
        self.at += length + 12;
        Some((name, data))
    }
}
