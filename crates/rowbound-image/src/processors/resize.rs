//! Processors that make pictures larger or smaller. The arithmetic is pilkit's (`pilkit/processors/resize.py`), rounding included.

use super::canvas::{Crop, ResizeCanvas};
use super::crop::SmartCrop;
use super::{Anchor, Color, Processor, wrong};
use crate::error::Result;
use crate::raster::Raster;

/// A product as Python rounds it: halves to the even neighbour. At least one pixel, where pilkit fails.
fn rounded(side: u32, ratio: f64) -> u32 {
    (f64::from(side) * ratio).round_ties_even().max(1.0) as u32
}

/// Whether [`Resize`] does anything: without `upscale` only where both sides become shorter.
fn resizes(from: (u32, u32), to: (u32, u32), upscale: bool) -> bool {
    upscale || (to.0 < from.0 && to.1 < from.1)
}

fn cover(from: (u32, u32), to: (u32, u32)) -> (u32, u32) {
    let ratio = (f64::from(to.0) / f64::from(from.0)).max(f64::from(to.1) / f64::from(from.1));
    (rounded(from.0, ratio), rounded(from.1, ratio))
}

/// Resizes to exactly that size, whatever becomes of the proportions.
#[derive(Debug, Clone, PartialEq)]
pub struct Resize {
    size: (u32, u32),
    upscale: bool,
}

impl Resize {
    /// To `width` x `height` pixels.
    pub fn new(width: u32, height: u32) -> Self {
        Resize { size: (width, height), upscale: true }
    }

    /// Whether to enlarge. Default: yes. If not, a picture is left as it is unless both sides become shorter.
    pub fn upscale(mut self, upscale: bool) -> Self {
        self.upscale = upscale;
        self
    }
}

impl Processor for Resize {
    fn process(&self, raster: &mut Raster) -> Result<()> {
        match self.first_size(raster.width(), raster.height()) {
            Some((width, height)) => raster.resize(width, height),
            None => Ok(()),
        }
    }

    fn first_size(&self, width: u32, height: u32) -> Option<(u32, u32)> {
        resizes((width, height), self.size, self.upscale).then_some(self.size)
    }
}

/// Resizes to the smallest size that covers the given one; the proportions stay.
#[derive(Debug, Clone, PartialEq)]
pub struct ResizeToCover {
    size: (u32, u32),
    upscale: bool,
}

impl ResizeToCover {
    /// Covering `width` x `height` pixels.
    pub fn new(width: u32, height: u32) -> Self {
        ResizeToCover { size: (width, height), upscale: true }
    }

    /// Whether to enlarge. Default: yes.
    pub fn upscale(mut self, upscale: bool) -> Self {
        self.upscale = upscale;
        self
    }
}

impl Processor for ResizeToCover {
    fn process(&self, raster: &mut Raster) -> Result<()> {
        match self.first_size(raster.width(), raster.height()) {
            Some((width, height)) => raster.resize(width, height),
            None => Ok(()),
        }
    }

    fn first_size(&self, width: u32, height: u32) -> Option<(u32, u32)> {
        if self.size.0 == 0 || self.size.1 == 0 {
            return Some(self.size);
        }
        let to = cover((width, height), self.size);
        resizes((width, height), to, self.upscale).then_some(to)
    }
}

/// Covers the given size, then cuts what stands over.
#[derive(Debug, Clone, PartialEq)]
pub struct ResizeToFill {
    cover: ResizeToCover,
    anchor: Anchor,
}

impl ResizeToFill {
    /// To `width` x `height` pixels.
    pub fn new(width: u32, height: u32) -> Self {
        ResizeToFill { cover: ResizeToCover::new(width, height), anchor: Anchor::CENTER }
    }

    /// Which part stays. Default: the centre.
    pub fn anchor(mut self, anchor: Anchor) -> Self {
        self.anchor = anchor;
        self
    }

    /// Whether to enlarge. Default: yes. If not, a smaller picture is only cut.
    pub fn upscale(mut self, upscale: bool) -> Self {
        self.cover.upscale = upscale;
        self
    }
}

impl Processor for ResizeToFill {
    fn process(&self, raster: &mut Raster) -> Result<()> {
        self.cover.process(raster)?;
        Crop::new(self.cover.size.0, self.cover.size.1).anchor(self.anchor).process(raster)
    }

    fn first_size(&self, width: u32, height: u32) -> Option<(u32, u32)> {
        self.cover.first_size(width, height)
    }
}

/// Covers the given size, then cuts where the least is to be seen ([`SmartCrop`]).
#[derive(Debug, Clone, PartialEq)]
pub struct SmartResize {
    cover: ResizeToCover,
}

impl SmartResize {
    /// To `width` x `height` pixels.
    pub fn new(width: u32, height: u32) -> Self {
        SmartResize { cover: ResizeToCover::new(width, height) }
    }

    /// Whether to enlarge. Default: yes. If not, a smaller picture is only cut.
    pub fn upscale(mut self, upscale: bool) -> Self {
        self.cover.upscale = upscale;
        self
    }
}

impl Processor for SmartResize {
    fn process(&self, raster: &mut Raster) -> Result<()> {
        self.cover.process(raster)?;
        SmartCrop::new(self.cover.size.0, self.cover.size.1).process(raster)
    }

    fn first_size(&self, width: u32, height: u32) -> Option<(u32, u32)> {
        self.cover.first_size(width, height)
    }
}

/// Resizes to the largest size that fits into the given one; the proportions stay.
#[derive(Debug, Clone, PartialEq)]
pub struct ResizeToFit {
    width: Option<u32>,
    height: Option<u32>,
    upscale: bool,
    mat: Option<Color>,
    anchor: Anchor,
}

impl ResizeToFit {
    /// Into `width` x `height` pixels.
    pub fn new(width: u32, height: u32) -> Self {
        ResizeToFit { width: Some(width), height: Some(height), upscale: true, mat: None, anchor: Anchor::CENTER }
    }

    /// To a width in pixels, however high.
    pub fn width(width: u32) -> Self {
        ResizeToFit { height: None, ..ResizeToFit::new(width, 0) }
    }

    /// To a height in pixels, however wide.
    pub fn height(height: u32) -> Self {
        ResizeToFit { width: None, ..ResizeToFit::new(0, height) }
    }

    /// Whether to enlarge. Default: yes.
    pub fn upscale(mut self, upscale: bool) -> Self {
        self.upscale = upscale;
        self
    }

    /// Fills up to exactly the given size with a colour. Default: no. A side that was not given stays.
    pub fn mat(mut self, color: Color) -> Self {
        self.mat = Some(color);
        self
    }

    /// Where the picture lies on the mat. Default: in the centre.
    pub fn anchor(mut self, anchor: Anchor) -> Self {
        self.anchor = anchor;
        self
    }
}

impl Processor for ResizeToFit {
    fn process(&self, raster: &mut Raster) -> Result<()> {
        if let Some((width, height)) = self.first_size(raster.width(), raster.height()) {
            raster.resize(width, height)?;
        }
        if let Some(color) = self.mat {
            let (width, height) = (self.width.unwrap_or(raster.width()), self.height.unwrap_or(raster.height()));
            ResizeCanvas::new(width, height).color(color).anchor(self.anchor).process(raster)?;
        }
        Ok(())
    }

    fn first_size(&self, width: u32, height: u32) -> Option<(u32, u32)> {
        if self.width == Some(0) || self.height == Some(0) {
            return Some((0, 0));
        }
        let across = self.width.map_or(f64::INFINITY, |to| f64::from(to) / f64::from(width));
        let down = self.height.map_or(f64::INFINITY, |to| f64::from(to) / f64::from(height));
        let ratio = across.min(down);
        let to = (rounded(width, ratio), rounded(height, ratio));
        resizes((width, height), to, self.upscale).then_some(to)
    }
}

/// A thumbnail: with both sides given it is cut to the size where the least is to be seen, else it fits. It never enlarges unless told to, so a
/// picture that is smaller than the thumbnail stays as it is, and one that is smaller on one side is cut on the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Thumbnail {
    width: Option<u32>,
    height: Option<u32>,
    anchor: Option<Anchor>,
    crop: Option<bool>,
    upscale: bool,
}

impl Thumbnail {
    /// Of `width` x `height` pixels.
    pub fn new(width: u32, height: u32) -> Self {
        Thumbnail { width: Some(width), height: Some(height), anchor: None, crop: None, upscale: false }
    }

    /// Of a width in pixels, however high.
    pub fn width(width: u32) -> Self {
        Thumbnail { height: None, ..Thumbnail::new(width, 0) }
    }

    /// Of a height in pixels, however wide.
    pub fn height(height: u32) -> Self {
        Thumbnail { width: None, ..Thumbnail::new(0, height) }
    }

    /// Cuts so that this part stays, as [`ResizeToFill`], instead of looking for the best one.
    pub fn anchor(mut self, anchor: Anchor) -> Self {
        self.anchor = Some(anchor);
        self
    }

    /// Whether to cut. Said in words, `true` keeps the anchor or the centre ([`ResizeToFill`]), `false` cuts nothing ([`ResizeToFit`]).
    pub fn crop(mut self, crop: bool) -> Self {
        self.crop = Some(crop);
        self
    }

    /// Whether to enlarge. Default: no.
    pub fn upscale(mut self, upscale: bool) -> Self {
        self.upscale = upscale;
        self
    }

    fn processor(&self) -> Result<Box<dyn Processor>> {
        if self.anchor.is_some() && self.crop == Some(false) {
            return Err(wrong("a thumbnail that is not cut has no anchor"));
        }
        let both = self.width.zip(self.height);
        let crop = self.crop.unwrap_or(self.anchor.is_some() || both.is_some());
        if !crop {
            let fit = ResizeToFit { width: self.width, height: self.height, ..ResizeToFit::new(0, 0) };
            return Ok(Box::new(fit.upscale(self.upscale)));
        }
        let Some((width, height)) = both.filter(|&(width, height)| width > 0 && height > 0) else {
            return Err(wrong("a thumbnail that is cut needs both a width and a height"));
        };
        Ok(match (self.anchor, self.crop) {
            (None, None) => Box::new(SmartResize::new(width, height).upscale(self.upscale)),
            (anchor, _) => {
                let fill = ResizeToFill::new(width, height).anchor(anchor.unwrap_or(Anchor::CENTER));
                Box::new(fill.upscale(self.upscale))
            }
        })
    }
}

impl Processor for Thumbnail {
    fn process(&self, raster: &mut Raster) -> Result<()> {
        self.processor()?.process(raster)
    }

    fn first_size(&self, width: u32, height: u32) -> Option<(u32, u32)> {
        self.processor().ok()?.first_size(width, height)
    }
}
