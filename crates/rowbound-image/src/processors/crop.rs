//! Processors that decide by what is to be seen where to cut.

use super::{Color, Processor, wrong};
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

/// A side of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// Above.
    Top,
    /// On the right.
    Right,
    /// Below.
    Bottom,
    /// On the left.
    Left,
}

/// Cuts away a border of one colour.
#[derive(Debug, Clone, PartialEq)]
pub struct TrimBorderColor {
    color: Option<Color>,
    tolerance: f64,
    sides: Vec<Side>,
}

impl Default for TrimBorderColor {
    fn default() -> Self {
        TrimBorderColor::new()
    }
}

impl TrimBorderColor {
    /// The colour that most of the outermost pixels have (the median of each channel), on all sides.
    pub fn new() -> Self {
        TrimBorderColor { color: None, tolerance: 0.3, sides: vec![Side::Top, Side::Right, Side::Bottom, Side::Left] }
    }

    /// This colour.
    pub fn color(mut self, color: Color) -> Self {
        self.color = Some(color);
        self
    }

    /// How far each channel may be from the colour: 0 is not at all, 1 would be everything and therefore counts as 0, as in pilkit. Default: 0.3.
    pub fn tolerance(mut self, tolerance: f64) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// Only on these sides.
    pub fn sides(mut self, sides: impl IntoIterator<Item = Side>) -> Self {
        self.sides = sides.into_iter().collect();
        self
    }
}

impl Processor for TrimBorderColor {
    fn process(&self, raster: &mut Raster) -> Result<()> {
        if !(0.0..=1.0).contains(&self.tolerance) {
            return Err(wrong(format!("a tolerance is between 0 and 1, not {}", self.tolerance)));
        }
        let mut copy = raster.clone();
        copy.to_rgba()?;
        let (width, height) = (copy.width(), copy.height());
        let (pixels, _) = copy.pixels()?.as_chunks::<4>();
        let color = self.color.unwrap_or_else(|| border_color(pixels, width as usize));
        let tolerance = if self.tolerance == 1.0 { 0 } else { (self.tolerance * 255.0) as u8 };
        let differs = |pixel: &[u8; 4]| pixel.iter().zip(color).any(|(&value, border)| value.abs_diff(border) > tolerance);
        let (mut left, mut top, mut right, mut bottom) = (width, height, 0, 0);
        for (y, row) in (0..).zip(pixels.chunks_exact(width as usize)) {
            let Some(first) = row.iter().position(differs) else { continue };
            let last = row.iter().rposition(differs).unwrap_or(first);
            left = left.min(first as u32);
            right = right.max(last as u32 + 1);
            top = top.min(y);
            bottom = y + 1;
        }
        if right == 0 {
            // Nothing but border: it stays.
            return Ok(());
        }
        let side = |side: Side, cut: u32, whole: u32| if self.sides.contains(&side) { cut } else { whole };
        raster.crop(side(Side::Left, left, 0), side(Side::Top, top, 0), side(Side::Right, right, width), side(Side::Bottom, bottom, height))
    }

    fn first_size(&self, _: u32, _: u32) -> Option<(u32, u32)> {
        None
    }
}

/// The median of each channel along the edge.
fn border_color(pixels: &[[u8; 4]], width: usize) -> Color {
    let height = pixels.len() / width;
    let on_edge = |index: &usize| {
        let (x, y) = (index % width, index / width);
        x == 0 || y == 0 || x + 1 == width || y + 1 == height
    };
    let mut counts = [[0usize; 256]; 4];
    let mut total = 0;
    for index in (0..pixels.len()).filter(on_edge) {
        total += 1;
        for (count, &value) in counts.iter_mut().zip(&pixels[index]) {
            count[usize::from(value)] += 1;
        }
    }
    counts.map(|count| {
        let mut sum = 0;
        count
            .iter()
            .position(|&count| {
                sum += count;
                sum > total / 2
            })
            .unwrap_or(255) as u8
    })
}
