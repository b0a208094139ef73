//! Processors that decide by what is to be seen where to cut.

use super::Processor;
use crate::error::Result;
use crate::raster::Raster;

/// Cuts away, bit by bit, the end in which the least is to be seen: the one whose colours have the lower entropy. pilkit's rule, step by step: the
/// width first, and the slices above and below are looked at in the picture's full width.
#[derive(Debug, Clone, PartialEq)]
pub struct SmartCrop {
    size: (u32, u32),
}

impl SmartCrop {
    /// To at most `width` x `height` pixels.
    pub fn new(width: u32, height: u32) -> Self {
        SmartCrop { size: (width, height) }
    }
}

impl Processor for SmartCrop {
    fn process(&self, raster: &mut Raster) -> Result<()> {
        let (width, height) = (raster.width(), raster.height());
        let view = View { width: width as usize, channels: raster.mode().channels(), pixels: raster.pixels()? };
        let (left, right) = narrowed(width, self.size.0, |from, to| view.entropy(from..to, 0..height));
        let (top, bottom) = narrowed(height, self.size.1, |from, to| view.entropy(0..width, from..to));
        raster.crop(left, top, right, bottom)
    }

    fn first_size(&self, _: u32, _: u32) -> Option<(u32, u32)> {
        None
    }
}

/// What stays of an axis.
fn narrowed(length: u32, wanted: u32, entropy: impl Fn(u32, u32) -> f64) -> (u32, u32) {
    let (mut start, mut end) = (0, length);
    let mut excess = length.saturating_sub(wanted);
    while excess > 0 {
        let slice = excess.min((excess / 5).max(10));
        let (first, last) = (entropy(start, start + slice), entropy(end - slice, end));
        let (add, remove) = if last != 0.0 && (first / last - 1.0).abs() < 0.01 {
            // As good as equal: from both ends.
            if excess >= slice * 2 { (slice, slice) } else { (slice / 2, slice - slice / 2) }
        } else if first > last {
            (0, slice)
        } else {
            (slice, 0)
        };
        start += add;
        end -= remove;
        excess -= add + remove;
    }
    (start, end)
}

struct View<'a> {
    width: usize,
    channels: usize,
    pixels: &'a [u8],
}

impl View<'_> {
    /// Shannon's entropy, in bits, of the histogram of all channels of a part, one after the other (Pillow's `Image.entropy`).
    fn entropy(&self, columns: std::ops::Range<u32>, rows: std::ops::Range<u32>) -> f64 {
        let mut counts = [[0u32; 256]; 4];
        for row in rows {
            let at = row as usize * self.width;
            let part = &self.pixels[(at + columns.start as usize) * self.channels..(at + columns.end as usize) * self.channels];
            for pixel in part.chunks_exact(self.channels) {
                for (count, &value) in counts.iter_mut().zip(pixel) {
                    count[usize::from(value)] += 1;
                }
            }
        }
        let total: f64 = counts.iter().flatten().map(|&count| f64::from(count)).sum();
        -counts.iter().flatten().filter(|&&count| count > 0).map(|&count| f64::from(count) / total).map(|p| p * p.log2()).sum::<f64>()
    }
}
