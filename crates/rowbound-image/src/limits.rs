//! How large a picture may be.
//!
//! In: what a header claims. Out: nothing, or the error that names the limit. Everything is checked before the first pixel is decoded.

use crate::error::{Error, Kind, Limit, Result};

/// What a picture may claim in its header, and what working on it may cost.
///
/// ```
/// use rowbound_image::Limits;
/// let limits = Limits { pixels: 24_000_000, ..Limits::default() };
/// assert_eq!(limits.width, 30_000);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The widest picture, in pixels. Default: 30000.
    pub width: u32,
    /// The highest picture, in pixels. Default: 30000.
    pub height: u32,
    /// The largest picture, in pixels; also of what a processor makes. Default: 89478485, where Pillow begins to warn of a
    /// decompression bomb (`Image.MAX_IMAGE_PIXELS`).
    pub pixels: u64,
    /// What decoding one picture may allocate, in bytes, by an estimate from its header. Default: 256 MiB, which a progressive
    /// JPEG of 80 megapixels needs.
    pub memory: u64,
    /// The scans of a JPEG. Default: 100. Cameras and encoders write 1 to 20; each scan of a progressive picture walks over all of its
    /// blocks, however few bytes it has ("Two Issues with the JPEG Standard", libjpeg-turbo.org).
    pub scans: u32,
    /// Scans times pixels of a JPEG. Default: 1.2 billion: 100 scans of 12 megapixels, 13 of 89.
    pub scanned_pixels: u64,
    /// The colour profile and the EXIF record, in bytes, each. Default: 4 MiB.
    pub metadata: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            width: 30_000,
            height: 30_000,
            pixels: 89_478_485,
            memory: 256 << 20,
            scans: 100,
            scanned_pixels: 1_200_000_000,
            metadata: 4 << 20,
        }
    }
}

impl Limits {
    /// Checks a picture's size, in pixels.
    pub(crate) fn check_size(&self, width: u32, height: u32) -> Result<()> {
        if width == 0 || height == 0 {
            return Err(Error::damaged(format_args!("it says that it is {width}x{height} pixels")));
        }
        if width > self.width {
            return Err(too_large(Limit::Width, format_args!("the picture is {width} pixels wide; {} are allowed", self.width)));
        }
        if height > self.height {
            return Err(too_large(Limit::Height, format_args!("the picture is {height} pixels high; {} are allowed", self.height)));
        }
        self.check_pixels(width, height)
    }

    /// Checks the number of pixels alone: what processors make may be wider than an upload.
    pub(crate) fn check_pixels(&self, width: u32, height: u32) -> Result<()> {
        let pixels = u64::from(width) * u64::from(height);
        if pixels > self.pixels {
            let allowed = self.pixels;
            return Err(too_large(Limit::Pixels, format_args!("{width}x{height} are {pixels} pixels; {allowed} are allowed")));
        }
        Ok(())
    }

    /// Checks an estimate of what is to be allocated, in bytes.
    pub(crate) fn check_memory(&self, bytes: u64) -> Result<()> {
        if bytes > self.memory {
            let allowed = self.memory;
            return Err(too_large(Limit::Memory, format_args!("decoding needs about {bytes} bytes; {allowed} are allowed")));
        }
        Ok(())
    }

    /// Checks the scans of a JPEG of that many pixels.
    pub(crate) fn check_scans(&self, scans: u32, pixels: u64) -> Result<()> {
        if scans > self.scans {
            return Err(too_large(Limit::Scans, format_args!("the JPEG has more than {} scans", self.scans)));
        }
        if u64::from(scans) * pixels > self.scanned_pixels {
            let allowed = self.scanned_pixels;
            return Err(too_large(
                Limit::Scans,
                format_args!("{scans} scans of {pixels} pixels are too much work; {allowed} scanned pixels are allowed"),
            ));
        }
        Ok(())
    }

    /// Checks a colour profile's or an EXIF record's length, in bytes.
    pub(crate) fn check_metadata(&self, what: &str, bytes: usize) -> Result<()> {
        if bytes > self.metadata {
            let allowed = self.metadata;
            return Err(too_large(Limit::Metadata, format_args!("the {what} has {bytes} bytes; {allowed} are allowed")));
        }
        Ok(())
    }
}

fn too_large(limit: Limit, message: std::fmt::Arguments<'_>) -> Error {
    Error::new(Kind::TooLarge(limit), message.to_string()).hint("upload a smaller picture, or raise the limit in `Limits`")
}
