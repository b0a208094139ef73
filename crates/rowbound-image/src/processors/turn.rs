//! Mirroring and turning.

use super::Processor;
use crate::error::Result;
use crate::exif::Orientation;
use crate::raster::Raster;

/// Mirrors or turns the picture, step by step.
#[derive(Debug, Clone, PartialEq)]
pub struct Transpose {
    /// None: as EXIF says.
    steps: Option<Vec<Orientation>>,
}

impl Transpose {
    /// As the picture's EXIF record says: pilkit's `Transpose()` and `Transpose(Transpose.AUTO)`. Nothing is left to do where the pipeline turns pictures
    /// upright by itself, which is its default.
    pub fn auto() -> Self {
        Transpose { steps: None }
    }

    /// In these steps. pilkit's `ROTATE_90` turns counter-clockwise: that is [`Orientation::Rotate270`].
    pub fn new(steps: impl IntoIterator<Item = Orientation>) -> Self {
        Transpose { steps: Some(steps.into_iter().collect()) }
    }
}

impl Processor for Transpose {
    fn process(&self, raster: &mut Raster) -> Result<()> {
        match &self.steps {
            Some(steps) => steps.iter().try_for_each(|&step| raster.transpose(step)),
            None => raster.turn_upright(),
        }
    }

    fn first_size(&self, _: u32, _: u32) -> Option<(u32, u32)> {
        None
    }
}
