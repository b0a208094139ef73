//! What can be done with a picture: pilkit's processors, by its names and with its sizes.
//!
//! In: a [`Raster`]. Out: the same, changed. A processor of your own is an implementation of [`Processor`].

mod canvas;
mod crop;
mod effects;
mod resize;
mod turn;

pub use canvas::{AddBorder, Crop, ResizeCanvas};
pub use crop::{Side, SmartCrop, TrimBorderColor};
pub use effects::{Adjust, ColorOverlay, MakeOpaque, Reflection};
pub use resize::{Resize, ResizeToCover, ResizeToFill, ResizeToFit, SmartResize, Thumbnail};
pub use turn::Transpose;

use crate::error::{Error, Kind, Result};
use crate::raster::Raster;

/// A step between decoding and encoding.
pub trait Processor: std::fmt::Debug + Send + Sync {
    /// Changes the picture.
    ///
    /// # Errors
    ///
    /// [`Kind::Processor`] where its own values make no sense; what the operations on [`Raster`] return.
    fn process(&self, raster: &mut Raster) -> Result<()>;

    /// The size, in pixels, to which this processor resizes a picture of that size before it does anything else, or `None` where it wants all pixels. The
    /// picture is then decoded at about twice that size instead of whole: the answer must be what [`Processor::process`] does.
    fn first_size(&self, width: u32, height: u32) -> Option<(u32, u32)>;
}

/// A place in a picture, as parts of what is left over beside it: 0 is left or top, 1 right or bottom.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Anchor {
    /// From left (0) to right (1).
    pub x: f64,
    /// From top (0) to bottom (1).
    pub y: f64,
}

impl Anchor {
    /// pilkit's `tl`.
    pub const TOP_LEFT: Anchor = Anchor { x: 0.0, y: 0.0 };
    /// pilkit's `t`.
    pub const TOP: Anchor = Anchor { x: 0.5, y: 0.0 };
    /// pilkit's `tr`.
    pub const TOP_RIGHT: Anchor = Anchor { x: 1.0, y: 0.0 };
    /// pilkit's `l`.
    pub const LEFT: Anchor = Anchor { x: 0.0, y: 0.5 };
    /// pilkit's `c`.
    pub const CENTER: Anchor = Anchor { x: 0.5, y: 0.5 };
    /// pilkit's `r`.
    pub const RIGHT: Anchor = Anchor { x: 1.0, y: 0.5 };
    /// pilkit's `bl`.
    pub const BOTTOM_LEFT: Anchor = Anchor { x: 0.0, y: 1.0 };
    /// pilkit's `b`.
    pub const BOTTOM: Anchor = Anchor { x: 0.5, y: 1.0 };
    /// pilkit's `br`.
    pub const BOTTOM_RIGHT: Anchor = Anchor { x: 1.0, y: 1.0 };

    /// By pilkit's short name: `tl`, `t`, `tr`, `l`, `c`, `r`, `bl`, `b`, `br`.
    pub fn from_name(name: &str) -> Option<Anchor> {
        Some(match name {
            "tl" => Anchor::TOP_LEFT,
            "t" => Anchor::TOP,
            "tr" => Anchor::TOP_RIGHT,
            "l" => Anchor::LEFT,
            "c" => Anchor::CENTER,
            "r" => Anchor::RIGHT,
            "bl" => Anchor::BOTTOM_LEFT,
            "b" => Anchor::BOTTOM,
            "br" => Anchor::BOTTOM_RIGHT,
            _ => return None,
        })
    }
}

/// A colour in sRGB: red, green, blue, opacity (255 is opaque).
pub type Color = [u8; 4];

fn wrong(message: impl Into<String>) -> Error {
    Error::new(Kind::Processor, message)
}
