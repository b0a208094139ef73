//! Processors that change colours. All work in sRGB: what came with another profile is converted first. The arithmetic is Pillow's
//! (`ImageEnhance`, `Blend.c`, `Filter.c`), so that the same numbers give the same pictures.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::{Processor, wrong};
use crate::color::{blended, on};
use crate::error::Result;
use crate::raster::{Mode, Raster};

/// Changes colour, brightness, contrast and sharpness, in this order. 1 leaves a property as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Adjust {
    color: f32,
    brightness: f32,
    contrast: f32,
    sharpness: f32,
}

impl Default for Adjust {
    fn default() -> Self {
        Adjust::new()
    }
}

impl Adjust {
    /// Changes nothing yet.
    pub fn new() -> Self {
        Adjust { color: 1.0, brightness: 1.0, contrast: 1.0, sharpness: 1.0 }
    }

    /// The saturation: 0 is black and white, 1 as it was, more is more colourful.
    pub fn color(mut self, factor: f32) -> Self {
        self.color = factor;
        self
    }

    /// The brightness: 0 is black.
    pub fn brightness(mut self, factor: f32) -> Self {
        self.brightness = factor;
        self
    }

    /// The contrast: 0 is one gray.
    pub fn contrast(mut self, factor: f32) -> Self {
        self.contrast = factor;
        self
    }

    /// The sharpness: 0 is blurred, 2 sharpened.
    pub fn sharpness(mut self, factor: f32) -> Self {
        self.sharpness = factor;
        self
    }
}

impl Processor for Adjust {
    fn process(&self, raster: &mut Raster) -> Result<()> {
        raster.to_rgba()?;
        let width = raster.width() as usize;
        let pixels = raster.pixels_mut()?;
        if self.color != 1.0 {
            for_each(pixels, |pixel| {
                let gray = gray(pixel);
                pixel.map(|value| enhanced(gray, value, self.color))
            });
        }
        if self.brightness != 1.0 {
            for_each(pixels, |pixel| pixel.map(|value| enhanced(0, value, self.brightness)));
        }
        if self.contrast != 1.0 {
            let (rgba, _) = pixels.as_chunks::<4>();
            let sum: u64 = rgba.iter().map(|&[r, g, b, _]| u64::from(gray([r, g, b]))).sum();
            let mean = (sum as f64 / rgba.len() as f64 + 0.5) as u8;
            for_each(pixels, |pixel| pixel.map(|value| enhanced(mean, value, self.contrast)));
        }
        if self.sharpness != 1.0 {
            let smooth = smooth(pixels, width);
            let (smooth, _) = smooth.as_chunks::<4>();
            let mut at = 0;
            for_each(pixels, |pixel| {
                at += 1;
                [0, 1, 2].map(|channel| enhanced(smooth[at - 1][channel], pixel[channel], self.sharpness))
            });
        }
        Ok(())
    }

    fn first_size(&self, _: u32, _: u32) -> Option<(u32, u32)> {
        None
    }
}

/// Changes the colour of each RGBA pixel; its opacity stays.
fn for_each(pixels: &mut [u8], mut change: impl FnMut([u8; 3]) -> [u8; 3]) {
    let (pixels, _) = pixels.as_chunks_mut::<4>();
    for pixel in pixels {
        let [r, g, b] = change([pixel[0], pixel[1], pixel[2]]);
        *pixel = [r, g, b, pixel[3]];
    }
}

/// Rec. 601's luma in 16 bits (Pillow's L24).
fn gray([r, g, b]: [u8; 3]) -> u8 {
    ((u32::from(r) * 19_595 + u32::from(g) * 38_470 + u32::from(b) * 7_471 + 0x8000) >> 16) as u8
}

/// Pillow's `Image.blend`: cut, not rounded; beyond 0 and 1 it goes on, and is clipped.
fn enhanced(degenerate: u8, value: u8, factor: f32) -> u8 {
    (f32::from(degenerate) + factor * (f32::from(value) - f32::from(degenerate))) as u8
}

/// Pillow's `ImageFilter.SMOOTH`: 5 for the pixel, 1 for each neighbour, by 13. The outermost pixels stay.
fn smooth(pixels: &[u8], width: usize) -> Vec<u8> {
    let mut result = pixels.to_vec();
    let height = pixels.len() / 4 / width;
    for y in 1..height.saturating_sub(1) {
        for x in 1..width.saturating_sub(1) {
            for channel in 0..3 {
                let value = |dx: usize, dy: usize| u32::from(pixels[((y + dy - 1) * width + x + dx - 1) * 4 + channel]);
                let around: u32 = (0..3).flat_map(|dy| (0..3).map(move |dx| (dx, dy))).map(|(dx, dy)| value(dx, dy)).sum();
                result[(y * width + x) * 4 + channel] = ((around + 4 * value(1, 1)) as f32 / 13.0 + 0.5) as u8;
            }
        }
    }
    result
}

/// Lays a colour over the picture.
#[derive(Debug, Clone, PartialEq)]
pub struct ColorOverlay {
    color: [u8; 3],
    opacity: f64,
}

impl ColorOverlay {
    /// Red, green, blue in sRGB, half covering.
    pub fn new(color: [u8; 3]) -> Self {
        ColorOverlay { color, opacity: 0.5 }
    }

    /// How much the colour covers, 0 to 1. Default: 0.5.
    pub fn opacity(mut self, opacity: f64) -> Self {
        self.opacity = opacity;
        self
    }
}

impl Processor for ColorOverlay {
    fn process(&self, raster: &mut Raster) -> Result<()> {
        if !(0.0..=1.0).contains(&self.opacity) {
            return Err(wrong(format!("an overlay's opacity is between 0 and 1, not {}", self.opacity)));
        }
        raster.to_srgb()?;
        if raster.mode() == Mode::Gray {
            raster.to_rgb()?;
        }
        let channels = raster.mode().channels();
        let picture = ((1.0 - self.opacity) * 255.0) as u8;
        for pixel in raster.pixels_mut()?.chunks_exact_mut(channels) {
            for (value, &over) in pixel.iter_mut().zip(&self.color) {
                *value = blended(over, *value, picture);
            }
        }
        Ok(())
    }

    fn first_size(&self, _: u32, _: u32) -> Option<(u32, u32)> {
        None
    }
}

/// Lays the picture on a colour, so that nothing is transparent.
#[derive(Debug, Clone, PartialEq)]
pub struct MakeOpaque {
    background: [u8; 3],
}

impl Default for MakeOpaque {
    fn default() -> Self {
        MakeOpaque::new()
    }
}

impl MakeOpaque {
    /// On white.
    pub fn new() -> Self {
        MakeOpaque { background: [255; 3] }
    }

    /// On red, green, blue in sRGB.
    pub fn on(background: [u8; 3]) -> Self {
        MakeOpaque { background }
    }
}

impl Processor for MakeOpaque {
    fn process(&self, raster: &mut Raster) -> Result<()> {
        raster.to_srgb()?;
        if raster.mode() == Mode::Rgba {
            let pixels = on(raster.pixels()?, self.background);
            raster.replace(raster.width(), raster.height(), Mode::Rgb, pixels)?;
        }
        Ok(())
    }

    fn first_size(&self, _: u32, _: u32) -> Option<(u32, u32)> {
        None
    }
}

/// Adds the picture's reflection beneath it.
#[derive(Debug, Clone, PartialEq)]
pub struct Reflection {
    background: [u8; 3],
    size: f64,
    opacity: f64,
}

impl Reflection {
    /// As high as this part of the picture, 0 to 1, on white. With 0 nothing happens (pilkit, whose default that is, fails).
    pub fn new(size: f64) -> Self {
        Reflection { background: [255; 3], size, opacity: 0.6 }
    }

    /// What the reflection fades into: red, green, blue in sRGB. Default: white.
    pub fn background(mut self, color: [u8; 3]) -> Self {
        self.background = color;
        self
    }

    /// How well it is to be seen at its upper edge, 0 to 1. Default: 0.6.
    pub fn opacity(mut self, opacity: f64) -> Self {
        self.opacity = opacity;
        self
    }
}

impl Processor for Reflection {
    fn process(&self, raster: &mut Raster) -> Result<()> {
        for (what, value) in [("size", self.size), ("opacity", self.opacity)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(wrong(format!("a reflection's {what} is between 0 and 1, not {value}")));
            }
        }
        raster.to_rgba()?;
        let (width, height) = (raster.width(), raster.height());
        let reflected = (f64::from(height) * self.size) as u32;
        if reflected == 0 {
            return Ok(());
        }
        let [r, g, b] = self.background;
        let background = [r, g, b, 255];
        let mask = self.mask(height)?;
        raster.place(width, height + reflected, 0, 0, background)?;
        let row = width as usize * 4;
        let (picture, below) = raster.pixels_mut()?.split_at_mut(row * height as usize);
        for ((from, to), &part) in picture.chunks_exact(row).rev().zip(below.chunks_exact_mut(row)).zip(&mask) {
            for (index, (&from, to)) in from.iter().zip(to).enumerate() {
                *to = blended(from, background[index % 4], part);
            }
        }
        Ok(())
    }

    fn first_size(&self, _: u32, _: u32) -> Option<(u32, u32)> {
        None
    }
}

impl Reflection {
    /// How much of the background covers each row: a ramp of 255 steps, stretched to the picture's height as Pillow stretches it (bicubic).
    fn mask(&self, height: u32) -> Result<Vec<u8>> {
        let start = (255.0 - 255.0 * self.opacity) as i32;
        let steps = (255.0 * self.size) as i32;
        let rise = f64::from(255 - start) / f64::from(steps.max(1));
        let ramp: Vec<u8> = (0..255).map(|y| if y < steps { (f64::from(y) * rise + f64::from(start)) as u8 } else { 255 }).collect();
        let failed = |e: &dyn std::fmt::Display| wrong(format!("a reflection's mask: {e}"));
        let source = ImageRef::new(1, 255, &ramp, PixelType::U8).map_err(|e| failed(&e))?;
        let mut target = Image::new(1, height, PixelType::U8);
        let bicubic = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom));
        Resizer::new().resize(&source, &mut target, &bicubic).map_err(|e| failed(&e))?;
        Ok(target.into_vec())
    }
}
