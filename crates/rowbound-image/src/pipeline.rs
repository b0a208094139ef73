//! The whole way: bytes to bytes.
//!
//! In: an uploaded file. Out: the picture that is to be stored. A pipeline is made once and used from any thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::decode;
use crate::encode::{self, Options};
use crate::error::{Error, Result};
use crate::exif::Orientation;
use crate::format::Format;
use crate::header;
use crate::limits::Limits;
use crate::processors::Processor;

/// What is done with an uploaded picture: processors in their order, then the format to write.
///
/// ```
/// use rowbound_image::processors::Thumbnail;
/// use rowbound_image::{Format, Pipeline};
/// # let upload = Pipeline::new().format(Format::Png).run(&rowbound_image::doctest_picture())?.bytes;
///
/// let pipeline = Pipeline::new().then(Thumbnail::new(30, 30)).format(Format::Jpeg).quality(90);
/// let picture = pipeline.run(&upload)?;
/// assert_eq!((picture.format, picture.width, picture.height), (Format::Jpeg, 30, 30));
/// # Ok::<(), rowbound_image::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Pipeline {
    processors: Vec<Arc<dyn Processor>>,
    format: Option<Format>,
    options: Options,
    upright: bool,
    limits: Limits,
}

/// A picture that is ready to be stored.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Picture {
    /// The file.
    pub bytes: Vec<u8>,
    /// Its format.
    pub format: Format,
    /// Its width, in pixels.
    pub width: u32,
    /// Its height, in pixels.
    pub height: u32,
}

/// Without the bytes: nobody wants to see them.
impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Picture({} {}x{}, {} bytes)", self.format, self.width, self.height, self.bytes.len())
    }
}

impl Default for Pipeline {
    fn default() -> Self {
        Pipeline::new()
    }
}

impl Pipeline {
    /// Without processors: turns the picture upright and writes it anew in its own format, in sRGB and without metadata.
    pub fn new() -> Self {
        Pipeline { processors: Vec::new(), format: None, options: Options::default(), upright: true, limits: Limits::default() }
    }

    /// Adds a processor behind the others.
    pub fn then(mut self, processor: impl Processor + 'static) -> Self {
        self.processors.push(Arc::new(processor));
        self
    }

    /// The format to write. Default: that of the upload, as pilkit does.
    pub fn format(mut self, format: Format) -> Self {
        self.format = Some(format);
        self
    }

    /// The quality of JPEG, WebP and AVIF, 1 to 100. Default: Pillow's, which is 75, 80 and 75.
    pub fn quality(mut self, quality: u8) -> Self {
        self.options.quality = Some(quality);
        self
    }

    /// Whether a JPEG appears in several passes. Default: no.
    pub fn progressive(mut self, progressive: bool) -> Self {
        self.options.progressive = progressive;
        self
    }

    /// Whether WebP is written without loss. Default: no. Without the feature `turbo` it always is.
    pub fn lossless(mut self, lossless: bool) -> Self {
        self.options.lossless = lossless;
        self
    }

    /// Whether the pixels stay in the colour profile that came with the picture, and the profile with them (JPEG, PNG, WebP), unless a processor that
    /// deals with colours came between. Default: no; the pixels are converted to sRGB.
    pub fn keep_profile(mut self, keep: bool) -> Self {
        self.options.keep_profile = keep;
        self
    }

    /// Whether the picture is turned upright, as its EXIF record says, before the first processor. Default: yes. pilkit does so only where
    /// `Transpose` is listed, although the record is gone from what it writes.
    pub fn upright(mut self, upright: bool) -> Self {
        self.upright = upright;
        self
    }

    /// What an upload may claim and cost. Default: [`Limits::default`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The format that an upload of the given format becomes.
    pub fn output_format(&self, source: Format) -> Format {
        self.format.unwrap_or(source)
    }

    /// Makes the picture. Takes as long as decoding does, up to seconds: call it where that blocks nobody (`tokio::task::spawn_blocking`).
    ///
    /// # Errors
    ///
    /// What [`probe`](crate::probe) finds, before any pixel is decoded; [`Kind::Damaged`](crate::Kind::Damaged) or
    /// [`Kind::Truncated`](crate::Kind::Truncated) where the pixels are; what a processor says.
    pub fn run(&self, bytes: &[u8]) -> Result<Picture> {
        // A decoder that panics on a made-up file must not take a worker with it.
        catch_unwind(AssertUnwindSafe(|| self.work(bytes))).unwrap_or_else(|_| Err(Error::damaged("a decoder gave up on it")))
    }

    fn work(&self, bytes: &[u8]) -> Result<Picture> {
        let parsed = header::read(bytes, &self.limits)?;
        let mut source = parsed.header();
        let format = self.output_format(source.format);
        let asked = if self.upright { Orientation::Normal } else { std::mem::take(&mut source.orientation) };
        let (width, height) = source.upright();
        let target = self.processors.first().and_then(|first| first.first_size(width, height));
        let mut raster = decode::decode(bytes, parsed, source.orientation, target, &self.limits)?.asking_for(asked);
        for processor in &self.processors {
            processor.process(&mut raster)?;
        }
        let picture = raster.finish(self.options.keep_profile && encode::writes_profile(format))?;
        let bytes = encode::encode(&picture, format, &self.options)?;
        Ok(Picture { bytes, format, width: picture.width, height: picture.height })
    }
}
