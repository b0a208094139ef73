//! Pixels on their way from the decoder to the encoder.
//!
//! In: decoded pixels. Out: pixels that processors have changed. A [`Raster`] puts off what is cheaper on a small picture: a decoder may have
//! shrunk it already, and turning it upright waits for the first resize. Width and height are always those that it stands for.

use std::borrow::Cow;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use crate::color;
use crate::error::{Error, Kind, Result};
use crate::exif::Orientation;
use crate::limits::Limits;

/// What a pixel consists of; one byte each, alpha not multiplied in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Gray.
    Gray,
    /// Red, green, blue.
    Rgb,
    /// Red, green, blue, opacity.
    Rgba,
    /// Cyan, magenta, yellow, black; 0 is no ink.
    Cmyk,
}

impl Mode {
    /// Bytes of a pixel.
    pub fn channels(self) -> usize {
        match self {
            Mode::Gray => 1,
            Mode::Rgb => 3,
            Mode::Rgba | Mode::Cmyk => 4,
        }
    }

    fn pixel_type(self) -> PixelType {
        match self {
            Mode::Gray => PixelType::U8,
            Mode::Rgb => PixelType::U8x3,
            Mode::Rgba | Mode::Cmyk => PixelType::U8x4,
        }
    }
}

/// A picture as processors see it.
#[derive(Debug, Clone)]
pub struct Raster {
    mode: Mode,
    /// The size of the buffer, in pixels.
    stored: (u32, u32),
    /// The size that the buffer stands for, not turned yet.
    size: (u32, u32),
    /// How many of the buffer's pixels the size covers: less than `stored` where a shrunk edge is not whole.
    covered: (f64, f64),
    orientation: Orientation,
    /// What the EXIF record asked for, where the pipeline does not see to it.
    asked: Orientation,
    profile: Option<Vec<u8>>,
    pixels: Vec<u8>,
    limits: Limits,
}

impl Raster {
    /// A picture of `width` x `height` pixels in sRGB.
    ///
    /// # Errors
    ///
    /// [`Kind::Processor`] where `pixels` has not `width * height * mode.channels()` bytes, or there are none.
    pub fn new(width: u32, height: u32, mode: Mode, pixels: Vec<u8>) -> Result<Raster> {
        let wanted = width as usize * height as usize * mode.channels();
        if wanted == 0 || pixels.len() != wanted {
            let got = pixels.len();
            return Err(Error::new(Kind::Processor, format!("{width}x{height} pixels of {mode:?} are {wanted} bytes, not {got}")));
        }
        Ok(Raster {
            mode,
            stored: (width, height),
            size: (width, height),
            covered: (f64::from(width), f64::from(height)),
            orientation: Orientation::Normal,
            asked: Orientation::Normal,
            profile: None,
            pixels,
            limits: Limits::default(),
        })
    }

    /// Says that this is a shrunk form of a picture of `size`, of which `covered` pixels of the buffer are really part.
    pub(crate) fn standing_for(mut self, size: (u32, u32), covered: (f64, f64)) -> Self {
        self.size = size;
        self.covered = covered;
        self
    }

    pub(crate) fn with(mut self, orientation: Orientation, profile: Option<Vec<u8>>, limits: Limits) -> Self {
        self.orientation = orientation;
        self.profile = profile;
        self.limits = limits;
        self
    }

    pub(crate) fn asking_for(mut self, asked: Orientation) -> Self {
        self.asked = asked;
        self
    }

    /// Turns the picture as its EXIF record asks for, unless that was done.
    ///
    /// # Errors
    ///
    /// As [`Raster::resize`].
    pub fn turn_upright(&mut self) -> Result<()> {
        let asked = std::mem::take(&mut self.asked);
        self.transpose(asked)
    }

    /// The width, in pixels.
    pub fn width(&self) -> u32 {
        self.orientation.turn(self.size).0
    }

    /// The height, in pixels.
    pub fn height(&self) -> u32 {
        self.orientation.turn(self.size).1
    }

    /// What a pixel consists of.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The colour profile that the pixels are in; sRGB where there is none.
    pub fn profile(&self) -> Option<&[u8]> {
        self.profile.as_deref()
    }

    /// The pixels, row by row from the top left, turned upright. In the profile that came with the picture: see [`Raster::to_srgb`].
    ///
    /// # Errors
    ///
    /// As [`Raster::resize`].
    pub fn pixels(&mut self) -> Result<&[u8]> {
        self.settle()?;
        Ok(&self.pixels)
    }

    /// The pixels, to be changed in place.
    ///
    /// # Errors
    ///
    /// As [`Raster::resize`].
    pub fn pixels_mut(&mut self) -> Result<&mut [u8]> {
        self.settle()?;
        Ok(&mut self.pixels)
    }

    /// Resizes to exactly that many pixels: Lanczos with three lobes, widened when shrinking, alpha multiplied in meanwhile, as Pillow's `LANCZOS`.
    ///
    /// # Errors
    ///
    /// [`Kind::Processor`] for a size without pixels, [`Kind::TooLarge`] where the result passes [`Limits::pixels`].
    pub fn resize(&mut self, width: u32, height: u32) -> Result<()> {
        if width == 0 || height == 0 {
            return Err(Error::new(Kind::Processor, format!("a picture cannot be resized to {width}x{height}")));
        }
        let whole = self.stored == self.size;
        if !whole || (width, height) != (self.width(), self.height()) {
            self.limits.check_pixels(width, height)?;
            let (w, h) = self.orientation.turn((width, height));
            self.pixels = self.resampled(w, h)?;
            self.stored = (w, h);
            self.size = (w, h);
            self.covered = (f64::from(w), f64::from(h));
        }
        self.turn();
        Ok(())
    }

    fn resampled(&self, width: u32, height: u32) -> Result<Vec<u8>> {
        let failed = |e: &dyn std::fmt::Display| Error::new(Kind::Processor, format!("resizing to {width}x{height} failed: {e}"));
        let pixel_type = self.mode.pixel_type();
        let source = ImageRef::new(self.stored.0, self.stored.1, &self.pixels, pixel_type).map_err(|e| failed(&e))?;
        let mut target = Image::new(width, height, pixel_type);
        let options = ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3))
            .crop(0.0, 0.0, self.covered.0, self.covered.1)
            .use_alpha(self.mode == Mode::Rgba);
        Resizer::new().resize(&source, &mut target, &options).map_err(|e| failed(&e))?;
        Ok(target.into_vec())
    }

    /// Does what was put off: after it the buffer is the picture.
    fn settle(&mut self) -> Result<()> {
        if self.stored != self.size {
            self.resize(self.width(), self.height())?;
        }
        self.turn();
        Ok(())
    }

    fn turn(&mut self) {
        if self.stored == self.size {
            let orientation = std::mem::take(&mut self.orientation);
            self.transpose_stored(orientation);
        }
    }

    /// Mirrors or turns the picture.
    ///
    /// # Errors
    ///
    /// As [`Raster::resize`].
    pub fn transpose(&mut self, how: Orientation) -> Result<()> {
        self.settle()?;
        self.transpose_stored(how);
        Ok(())
    }

    fn transpose_stored(&mut self, how: Orientation) {
        if how == Orientation::Normal {
            return;
        }
        self.pixels = match self.mode.channels() {
            1 => transposed::<1>(&self.pixels, self.stored, how),
            3 => transposed::<3>(&self.pixels, self.stored, how),
            _ => transposed::<4>(&self.pixels, self.stored, how),
        };
        self.stored = how.turn(self.stored);
        self.size = self.stored;
        self.covered = (f64::from(self.stored.0), f64::from(self.stored.1));
    }

    /// Cuts out a part that lies within the picture: left, top, right, bottom, in pixels.
    ///
    /// # Errors
    ///
    /// [`Kind::Processor`] where it does not lie within, or is empty.
    pub fn crop(&mut self, left: u32, top: u32, right: u32, bottom: u32) -> Result<()> {
        self.settle()?;
        if left >= right || top >= bottom || right > self.size.0 || bottom > self.size.1 {
            let (w, h) = self.size;
            return Err(Error::new(Kind::Processor, format!("{left},{top} to {right},{bottom} is no part of {w}x{h} pixels")));
        }
        if (left, top, right, bottom) == (0, 0, self.size.0, self.size.1) {
            return Ok(());
        }
        let channels = self.mode.channels();
        let row = self.size.0 as usize * channels;
        let part = left as usize * channels..right as usize * channels;
        let rows = self.pixels.chunks_exact(row).skip(top as usize).take((bottom - top) as usize);
        self.pixels = rows.flat_map(|row| &row[part.clone()]).copied().collect();
        self.set_size(right - left, bottom - top);
        Ok(())
    }

    /// Puts other pixels in place, in sRGB. The limits stay.
    ///
    /// # Errors
    ///
    /// As [`Raster::new`], and [`Kind::TooLarge`] where they pass [`Limits::pixels`].
    pub fn replace(&mut self, width: u32, height: u32, mode: Mode, pixels: Vec<u8>) -> Result<()> {
        self.limits.check_pixels(width, height)?;
        *self = Raster::new(width, height, mode, pixels)?.with(Orientation::Normal, None, self.limits).asking_for(self.asked);
        Ok(())
    }

    fn set_size(&mut self, width: u32, height: u32) {
        self.stored = (width, height);
        self.size = (width, height);
        self.covered = (f64::from(width), f64::from(height));
    }

    /// Lays the picture on a canvas of that many pixels filled with a colour, its top left corner at x, y, which may be negative. What does not lie on
    /// the canvas is cut off. The result is RGBA unless the picture covers the whole canvas.
    ///
    /// # Errors
    ///
    /// As [`Raster::resize`].
    pub fn place(&mut self, width: u32, height: u32, x: i64, y: i64, color: [u8; 4]) -> Result<()> {
        if width == 0 || height == 0 {
            return Err(Error::new(Kind::Processor, format!("a canvas cannot have {width}x{height} pixels")));
        }
        let (w, h) = (i64::from(self.width()), i64::from(self.height()));
        // The part of the picture that is on the canvas.
        let (left, top) = ((-x).clamp(0, w), (-y).clamp(0, h));
        let (right, bottom) = ((i64::from(width) - x).clamp(left, w), (i64::from(height) - y).clamp(top, h));
        if right - left == i64::from(width) && bottom - top == i64::from(height) {
            return self.crop(left as u32, top as u32, right as u32, bottom as u32);
        }
        self.limits.check_pixels(width, height)?;
        self.to_rgba()?;
        let mut canvas = color.repeat(width as usize * height as usize);
        let length = (right - left) as usize * 4;
        for line in top..bottom {
            let from = (line * w + left) as usize * 4;
            let to = ((line + y) * i64::from(width) + left + x) as usize * 4;
            canvas[to..to + length].copy_from_slice(&self.pixels[from..from + length]);
        }
        self.pixels = canvas;
        self.set_size(width, height);
        Ok(())
    }

    /// Converts the colours to sRGB where the picture came with another profile, and inks to red, green and blue.
    ///
    /// # Errors
    ///
    /// As [`Raster::resize`].
    pub fn to_srgb(&mut self) -> Result<()> {
        self.settle()?;
        let profile = self.profile.take();
        if let Some(profile) = profile {
            color::to_srgb(&mut self.mode, &mut self.pixels, &profile);
        }
        if self.mode == Mode::Cmyk {
            self.pixels = color::inks_to_rgb(&self.pixels);
            self.mode = Mode::Rgb;
        }
        Ok(())
    }

    /// Converts to red, green and blue in sRGB; what is transparent is laid on white.
    ///
    /// # Errors
    ///
    /// As [`Raster::resize`].
    pub fn to_rgb(&mut self) -> Result<()> {
        self.to_srgb()?;
        self.drop_alpha();
        if self.mode == Mode::Gray {
            self.pixels = self.pixels.iter().flat_map(|&gray| [gray; 3]).collect();
            self.mode = Mode::Rgb;
        }
        Ok(())
    }

    /// Converts to red, green, blue and opacity in sRGB.
    ///
    /// # Errors
    ///
    /// As [`Raster::resize`].
    pub fn to_rgba(&mut self) -> Result<()> {
        self.to_srgb()?;
        let pixels = std::mem::take(&mut self.pixels);
        self.pixels = match self.mode {
            Mode::Gray => pixels.iter().flat_map(|&gray| [gray, gray, gray, 255]).collect(),
            Mode::Rgb => pixels.chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], 255]).collect(),
            Mode::Rgba | Mode::Cmyk => pixels,
        };
        self.mode = Mode::Rgba;
        Ok(())
    }

    /// Lays what is transparent on white, in whatever profile the pixels are.
    pub(crate) fn drop_alpha(&mut self) {
        if self.mode == Mode::Rgba {
            self.pixels = color::on(&self.pixels, [255; 3]);
            self.mode = Mode::Rgb;
        }
    }

    /// What the encoder gets: upright pixels, and the profile that they are in.
    pub(crate) fn finish(mut self, keep_profile: bool) -> Result<Finished> {
        // A profile for inks says nothing about the red, green and blue that they become.
        if !keep_profile || self.mode == Mode::Cmyk {
            self.to_srgb()?;
        }
        self.settle()?;
        let (width, height) = self.size;
        Ok(Finished { width, height, mode: self.mode, pixels: self.pixels, profile: self.profile })
    }
}

/// A picture that is done.
pub(crate) struct Finished {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) mode: Mode,
    pub(crate) pixels: Vec<u8>,
    pub(crate) profile: Option<Vec<u8>>,
}

impl Finished {
    /// Opaque pixels: red, green, blue, on white.
    pub(crate) fn rgb(&self) -> Cow<'_, [u8]> {
        match self.mode {
            Mode::Gray => Cow::Owned(self.pixels.iter().flat_map(|&gray| [gray; 3]).collect()),
            Mode::Rgba => Cow::Owned(color::on(&self.pixels, [255; 3])),
            Mode::Rgb | Mode::Cmyk => Cow::Borrowed(&self.pixels),
        }
    }
}

fn transposed<const N: usize>(pixels: &[u8], (width, height): (u32, u32), how: Orientation) -> Vec<u8> {
    use Orientation::*;
    let (pixels, _) = pixels.as_chunks::<N>();
    let (w, h) = (width as usize, height as usize);
    let (new_w, new_h) = how.turn((w, h));
    let mut result = Vec::with_capacity(w * h * N);
    for y in 0..new_h {
        for x in 0..new_w {
            let (from_x, from_y) = match how {
                Normal => (x, y),
                FlipHorizontal => (w - 1 - x, y),
                Rotate180 => (w - 1 - x, h - 1 - y),
                FlipVertical => (x, h - 1 - y),
                Transpose => (y, x),
                Rotate90 => (y, h - 1 - x),
                Transverse => (w - 1 - y, h - 1 - x),
                Rotate270 => (w - 1 - y, x),
            };
            result.extend_from_slice(&pixels[from_y * w + from_x]);
        }
    }
    result
}
