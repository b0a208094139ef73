//! Colours.
//!
//! In: pixels in the profile that came with them, inks, transparency. Out: sRGB, opaque.

use moxcms::{ColorProfile, DataColorSpace, Layout, RenderingIntent, TransformOptions};

use crate::raster::Mode;

/// Converts pixels from an ICC profile to sRGB. A profile that cannot be read, or is for other colours than the pixels have, is left out of
/// account, as browsers do: the pixels stay as they are.
pub(crate) fn to_srgb(mode: &mut Mode, pixels: &mut Vec<u8>, profile: &[u8]) {
    if let Some((new_mode, converted)) = converted(*mode, pixels, profile) {
        *mode = new_mode;
        *pixels = converted;
    }
}

fn converted(mode: Mode, pixels: &[u8], profile: &[u8]) -> Option<(Mode, Vec<u8>)> {
    let source = ColorProfile::new_from_slice(profile).ok()?;
    let (from, to, result) = match (mode, source.color_space) {
        (Mode::Gray, DataColorSpace::Gray) => (Layout::Gray, Layout::Rgb, Mode::Rgb),
        (Mode::Rgb, DataColorSpace::Rgb) => (Layout::Rgb, Layout::Rgb, Mode::Rgb),
        (Mode::Rgba, DataColorSpace::Rgb) => (Layout::Rgba, Layout::Rgba, Mode::Rgba),
        // Four channels of any meaning are called Rgba there.
        (Mode::Cmyk, DataColorSpace::Cmyk) => (Layout::Rgba, Layout::Rgb, Mode::Rgb),
        _ => return None,
    };
    let options = TransformOptions { rendering_intent: RenderingIntent::RelativeColorimetric, ..TransformOptions::default() };
    let transform = source.create_transform_8bit(from, &ColorProfile::new_srgb(), to, options).ok()?;
    let mut target = vec![0; pixels.len() / from.channels() * to.channels()];
    transform.transform(pixels, &mut target).ok()?;
    Some((result, target))
}

/// Inks without a profile, as Pillow converts them (`cmyk2rgb` in Convert.c): what an ink takes away, black takes away from the rest.
pub(crate) fn inks_to_rgb(pixels: &[u8]) -> Vec<u8> {
    let (inks, _) = pixels.as_chunks::<4>();
    inks.iter().flat_map(|&[c, m, y, k]| [c, m, y].map(|ink| multiplied(255 - ink, 255 - k))).collect()
}

/// a * b / 255, rounded, without a division (Pillow's MULDIV255).
fn multiplied(a: u8, b: u8) -> u8 {
    let product = u32::from(a) * u32::from(b) + 128;
    (((product >> 8) + product) >> 8) as u8
}

/// RGBA laid on an opaque colour.
pub(crate) fn on(pixels: &[u8], color: [u8; 3]) -> Vec<u8> {
    let (pixels, _) = pixels.as_chunks::<4>();
    pixels.iter().flat_map(|&[r, g, b, a]| [blended(color[0], r, a), blended(color[1], g, a), blended(color[2], b, a)]).collect()
}

/// Between two values: 0 of 255 is the first, 255 of 255 the second (Pillow's BLEND).
pub(crate) fn blended(below: u8, above: u8, part: u8) -> u8 {
    let sum = u32::from(above) * u32::from(part) + u32::from(below) * u32::from(255 - part) + 128;
    (((sum >> 8) + sum) >> 8) as u8
}
