//! Which way up a picture is.
//!
//! In: an EXIF record (a TIFF structure). Out: an [`Orientation`]. Nothing else is read from it, and nothing of it is kept. Whatever is not
//! understood counts as [`Orientation::Normal`]: a picture is not refused for its metadata.

/// How the stored pixels have to be turned to be looked at: the values of EXIF's tag 0x0112 (CIPA DC-008, 4.6.5.1.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Orientation {
    /// 1: as stored.
    #[default]
    Normal,
    /// 2: mirrored, left to right.
    FlipHorizontal,
    /// 3: turned by 180 degrees.
    Rotate180,
    /// 4: mirrored, top to bottom.
    FlipVertical,
    /// 5: mirrored along the diagonal from the top left.
    Transpose,
    /// 6: to be turned clockwise by 90 degrees.
    Rotate90,
    /// 7: mirrored along the diagonal from the top right.
    Transverse,
    /// 8: to be turned counter-clockwise by 90 degrees.
    Rotate270,
}

impl Orientation {
    /// From EXIF's number, 1 to 8.
    pub fn from_exif(value: u16) -> Option<Orientation> {
        use Orientation::*;
        [Normal, FlipHorizontal, Rotate180, FlipVertical, Transpose, Rotate90, Transverse, Rotate270]
            .get(usize::from(value).checked_sub(1)?)
            .copied()
    }

    /// Whether width and height change places.
    pub fn swaps(self) -> bool {
        use Orientation::*;
        matches!(self, Transpose | Rotate90 | Transverse | Rotate270)
    }

    /// A size as it is after turning, or (the rule is its own inverse) before.
    pub(crate) fn turn<T>(self, (width, height): (T, T)) -> (T, T) {
        if self.swaps() { (height, width) } else { (width, height) }
    }
}

/// The orientation that an EXIF record asks for, with or without the `Exif\0\0` in front that JPEG has.
pub(crate) fn orientation(exif: &[u8]) -> Orientation {
    find(exif.strip_prefix(b"Exif\0\0").unwrap_or(exif)).unwrap_or_default()
}

fn find(tiff: &[u8]) -> Option<Orientation> {
    let big = match tiff.get(..4)? {
        [b'I', b'I', 42, 0] => false,
        [b'M', b'M', 0, 42] => true,
        _ => return None,
    };
    let short = |at: usize| {
        let bytes = tiff.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    };
    let long = |at: usize| {
        let bytes = tiff.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    };
    let directory = usize::try_from(long(4)?).ok()?;
    // Only the first directory: the second is that of the embedded thumbnail.
    for entry in 0..usize::from(short(directory)?) {
        let at = directory.checked_add(2 + 12 * entry)?;
        if short(at)? == 0x0112 {
            // 3: a short, in the first half of the value field. Some writers use a long (4).
            let value = match short(at + 2)? {
                3 => short(at + 8)?,
                4 => u16::try_from(long(at + 8)?).ok()?,
                _ => return None,
            };
            return Orientation::from_exif(value);
        }
    }
    None
}
