//! Shrinking by whole numbers while rows come in.
//!
//! In: rows of decoded pixels. Out: each square of them averaged, to at least twice the size that is wanted in the end, so that the Lanczos after
//! it decides how the picture looks. Only what is in the works is held.

use crate::raster::Mode;

/// The factor by which rows may be averaged when the picture is to become `target` in the end: it stays at least twice as large.
pub(crate) fn factor(size: (u32, u32), target: Option<(u32, u32)>) -> u32 {
    let Some((width, height)) = target else { return 1 };
    let side = |from: u32, to: u32| u64::from(from) / (2 * u64::from(to.max(1)));
    // 255 * 255 * 128 * 128 fits 32 bits.
    side(size.0, width).min(side(size.1, height)).clamp(1, 128) as u32
}

/// Averages squares of pixels.
pub(crate) struct Shrinker {
    mode: Mode,
    width: u32,
    height: u32,
    factor: u32,
    /// One number per channel and column of the result.
    sums: Vec<u32>,
    /// Rows in `sums`.
    rows: u32,
    pixels: Vec<u8>,
}

impl Shrinker {
    /// For a picture of that size, in pixels.
    pub(crate) fn new(mode: Mode, width: u32, height: u32, factor: u32) -> Self {
        let columns = width.div_ceil(factor) as usize;
        let result = columns * height.div_ceil(factor) as usize * mode.channels();
        Shrinker {
            mode,
            width,
            height,
            factor,
            sums: vec![0; if factor == 1 { 0 } else { columns * mode.channels() }],
            rows: 0,
            pixels: Vec::with_capacity(result),
        }
    }

    /// Takes the next row.
    pub(crate) fn row(&mut self, row: &[u8]) {
        if self.factor == 1 {
            self.pixels.extend_from_slice(row);
            return;
        }
        let factor = self.factor as usize;
        match self.mode {
            Mode::Gray => add::<1>(&mut self.sums, row, factor),
            Mode::Rgb => add::<3>(&mut self.sums, row, factor),
            Mode::Cmyk => add::<4>(&mut self.sums, row, factor),
            Mode::Rgba => add_alpha(&mut self.sums, row, factor),
        }
        self.rows += 1;
        if self.rows == self.factor {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let channels = self.mode.channels();
        let columns = self.sums.len() / channels;
        for (column, sum) in self.sums.chunks_exact(channels).enumerate() {
            // The last column may be narrower.
            let across = if column + 1 == columns { self.width - self.factor * (columns as u32 - 1) } else { self.factor };
            let count = across * self.rows;
            let average = |sum: u32, count: u32| ((sum + count / 2) / count) as u8;
            match (self.mode, sum) {
                (Mode::Rgba, &[.., 0]) => self.pixels.extend_from_slice(&[0; 4]),
                (Mode::Rgba, &[r, g, b, a]) => {
                    self.pixels.extend([average(r, a), average(g, a), average(b, a), average(a, count)]);
                }
                _ => self.pixels.extend(sum.iter().map(|&sum| average(sum, count))),
            }
        }
        self.sums.fill(0);
        self.rows = 0;
    }

    /// The result: its size, how much of it the picture covers, and its pixels.
    pub(crate) fn finish(mut self) -> ((u32, u32), (f64, f64), Vec<u8>) {
        if self.rows > 0 {
            self.flush();
        }
        let size = (self.width.div_ceil(self.factor), self.height.div_ceil(self.factor));
        let factor = f64::from(self.factor);
        (size, (f64::from(self.width) / factor, f64::from(self.height) / factor), self.pixels)
    }
}

fn add<const N: usize>(sums: &mut [u32], row: &[u8], factor: usize) {
    let (sums, _) = sums.as_chunks_mut::<N>();
    for (sum, square) in sums.iter_mut().zip(row.chunks(factor * N)) {
        let mut total = [0u32; N];
        let (pixels, _) = square.as_chunks::<N>();
        for pixel in pixels {
            for channel in 0..N {
                total[channel] += u32::from(pixel[channel]);
            }
        }
        for channel in 0..N {
            sum[channel] += total[channel];
        }
    }
}

/// A colour counts as much as it can be seen.
fn add_alpha(sums: &mut [u32], row: &[u8], factor: usize) {
    let (sums, _) = sums.as_chunks_mut::<4>();
    for (sum, square) in sums.iter_mut().zip(row.chunks(factor * 4)) {
        let (pixels, _) = square.as_chunks::<4>();
        for &[r, g, b, a] in pixels {
            let a = u32::from(a);
            sum[0] += u32::from(r) * a;
            sum[1] += u32::from(g) * a;
            sum[2] += u32::from(b) * a;
            sum[3] += a;
        }
    }
}
