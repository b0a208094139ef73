//! Processors that cut or pad without resizing.

use super::{Anchor, Color, Processor};
use crate::error::Result;
use crate::raster::Raster;

/// pilkit's default: white that cannot be seen.
const INVISIBLE: Color = [255, 255, 255, 0];

/// Where a picture lies on a canvas.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    Anchor(Anchor),
    /// The top left corner, in pixels.
    At(i64, i64),
}

/// Cuts to at most the given size.
#[derive(Debug, Clone, PartialEq)]
pub struct Crop {
    size: (u32, u32),
    place: Place,
}

impl Crop {
    /// To at most `width` x `height` pixels around the centre.
    pub fn new(width: u32, height: u32) -> Self {
        Crop { size: (width, height), place: Place::Anchor(Anchor::CENTER) }
    }

    /// Which part stays. Default: the centre.
    pub fn anchor(mut self, anchor: Anchor) -> Self {
        self.place = Place::Anchor(anchor);
        self
    }

    /// Where the picture's top left corner comes to lie on the result, in pixels, so mostly negative: `(-10, 0)` cuts ten pixels on the left.
    pub fn at(mut self, x: i32, y: i32) -> Self {
        self.place = Place::At(x.into(), y.into());
        self
    }
}

impl Processor for Crop {
    fn process(&self, raster: &mut Raster) -> Result<()> {
        let (width, height) = (self.size.0.min(raster.width()), self.size.1.min(raster.height()));
        ResizeCanvas { size: (width, height), place: self.place, color: INVISIBLE }.process(raster)
    }

    fn first_size(&self, _: u32, _: u32) -> Option<(u32, u32)> {
        None
    }
}

/// Makes the canvas larger or smaller; the picture keeps its size.
#[derive(Debug, Clone, PartialEq)]
pub struct ResizeCanvas {
    size: (u32, u32),
    place: Place,
    color: Color,
}

impl ResizeCanvas {
    /// To `width` x `height` pixels, the picture in the centre.
    pub fn new(width: u32, height: u32) -> Self {
        ResizeCanvas { size: (width, height), place: Place::Anchor(Anchor::CENTER), color: INVISIBLE }
    }

    /// The colour around the picture. Default: white that is fully transparent.
    pub fn color(mut self, color: Color) -> Self {
        self.color = color;
        self
    }

    /// Where the picture lies. Default: in the centre.
    pub fn anchor(mut self, anchor: Anchor) -> Self {
        self.place = Place::Anchor(anchor);
        self
    }

    /// Where the picture's top left corner lies on the canvas, in pixels.
    pub fn at(mut self, x: i32, y: i32) -> Self {
        self.place = Place::At(x.into(), y.into());
        self
    }
}

impl Processor for ResizeCanvas {
    fn process(&self, raster: &mut Raster) -> Result<()> {
        let (width, height) = self.size;
        let (x, y) = match self.place {
            Place::At(x, y) => (x, y),
            Place::Anchor(anchor) => {
                // Towards zero, as Python's int().
                let offset = |canvas: u32, picture: u32, part: f64| ((f64::from(canvas) - f64::from(picture)) * part) as i64;
                (offset(width, raster.width(), anchor.x), offset(height, raster.height(), anchor.y))
            }
        };
        raster.place(width, height, x, y, self.color)
    }

    fn first_size(&self, _: u32, _: u32) -> Option<(u32, u32)> {
        None
    }
}

/// Adds a border around the picture.
#[derive(Debug, Clone, PartialEq)]
pub struct AddBorder {
    top: u32,
    right: u32,
    bottom: u32,
    left: u32,
    color: Color,
}

impl AddBorder {
    /// Of the same thickness on all sides, in pixels.
    pub fn new(thickness: u32) -> Self {
        AddBorder::sides(thickness, thickness, thickness, thickness)
    }

    /// Of a thickness per side, in pixels.
    pub fn sides(top: u32, right: u32, bottom: u32, left: u32) -> Self {
        AddBorder { top, right, bottom, left, color: INVISIBLE }
    }

    /// The border's colour. Default: white that is fully transparent.
    pub fn color(mut self, color: Color) -> Self {
        self.color = color;
        self
    }
}

impl Processor for AddBorder {
    fn process(&self, raster: &mut Raster) -> Result<()> {
        let width = raster.width().saturating_add(self.left).saturating_add(self.right);
        let height = raster.height().saturating_add(self.top).saturating_add(self.bottom);
        raster.place(width, height, self.left.into(), self.top.into(), self.color)
    }

    fn first_size(&self, _: u32, _: u32) -> Option<(u32, u32)> {
        None
    }
}
