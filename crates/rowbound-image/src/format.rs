//! The formats, and how bytes show theirs.
//!
//! In: the first bytes of a file, or an extension. Out: a [`Format`]. Names and declared types are never trusted.

/// A format of pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// JPEG: read and written.
    Jpeg,
    /// PNG: read and written; of an animated one its still picture.
    Png,
    /// WebP: read and written; of an animated one the first frame.
    WebP,
    /// GIF: read and written; of an animated one the first frame.
    Gif,
    /// TIFF: read and written; of several pages the first.
    Tiff,
    /// BMP: read and written.
    Bmp,
    /// AVIF: written with the feature `avif`, never read.
    Avif,
}

/// Everything that is said of a format, once. The first extension is the one that new files get; it is the one of django-imagekit
/// (`format_to_extension`: `.tif`, not `.tiff`). The others are those that Pillow registers for the format.
const TABLE: [(Format, &str, &str, &[&str]); 7] = [
    (Format::Jpeg, "JPEG", "image/jpeg", &["jpg", "jpeg", "jpe", "jfif"]),
    (Format::Png, "PNG", "image/png", &["png", "apng"]),
    (Format::WebP, "WebP", "image/webp", &["webp"]),
    (Format::Gif, "GIF", "image/gif", &["gif"]),
    (Format::Tiff, "TIFF", "image/tiff", &["tif", "tiff"]),
    (Format::Bmp, "BMP", "image/bmp", &["bmp", "dib"]),
    (Format::Avif, "AVIF", "image/avif", &["avif", "avifs"]),
];

impl Format {
    /// Every format.
    pub const ALL: [Format; 7] = [Format::Jpeg, Format::Png, Format::WebP, Format::Gif, Format::Tiff, Format::Bmp, Format::Avif];

    fn row(self) -> &'static (Format, &'static str, &'static str, &'static [&'static str]) {
        TABLE.iter().find(|row| row.0 == self).unwrap_or(&TABLE[0])
    }

    /// Its name as people write it: `JPEG`, `WebP`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The extension that a new file of this format gets, without the dot.
    pub fn extension(self) -> &'static str {
        self.row().3[0]
    }

    /// The media type.
    pub fn mime(self) -> &'static str {
        self.row().2
    }

    /// Whether a file name may keep this extension (with or without the dot, in any case) when its content becomes this format:
    /// `photo.jpeg` and `photo.JFIF` stay as they are for JPEG, as django-imagekit leaves them.
    ///
    /// ```
    /// use rowbound_image::Format;
    /// assert!(Format::Jpeg.keeps("JPEG") && Format::Jpeg.keeps(".jfif"));
    /// assert!(!Format::Jpeg.keeps("png"));
    /// ```
    pub fn keeps(self, extension: &str) -> bool {
        let extension = extension.strip_prefix('.').unwrap_or(extension);
        self.row().3.iter().any(|known| known.eq_ignore_ascii_case(extension))
    }

    /// The format that a person names: by its name or by one of its extensions, in any case.
    pub fn from_name(name: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.name().eq_ignore_ascii_case(name) || format.keeps(name))
    }

    /// The format that the first bytes show. Nothing but the bytes is looked at.
    pub fn sniff(bytes: &[u8]) -> Option<Format> {
        match bytes {
            [0xff, 0xd8, 0xff, ..] => Some(Format::Jpeg),
            [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => Some(Format::Png),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Format::WebP),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Format::Gif),
            [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => Some(Format::Tiff),
            [b'B', b'M', _, _, _, _, 0, 0, 0, 0, ..] => Some(Format::Bmp),
            [_, _, _, _, b'f', b't', b'y', b'p', b'a', b'v', b'i', b'f' | b's', ..] => Some(Format::Avif),
            _ => None,
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
