//! Files for the tests, made as they are needed.
#![allow(dead_code, reason = "no test file uses all of it")]

use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

/// An even gray, so that only its size costs anything.
pub fn gray_png(width: u32, height: u32) -> Vec<u8> {
    png(width, height, png::ColorType::Grayscale, png::BitDepth::Eight, &vec![128; (width * height) as usize], |_| {})
}

pub fn gray_jpeg(width: u32, height: u32) -> Vec<u8> {
    jpeg(width, height, ColorType::Luma, &vec![128; (width * height) as usize], |_| {})
}

/// A PNG of raw samples.
pub fn png(
    width: u32,
    height: u32,
    color: png::ColorType,
    depth: png::BitDepth,
    samples: &[u8],
    change: impl FnOnce(&mut png::Info<'_>),
) -> Vec<u8> {
    let mut info = png::Info::with_size(width, height);
    info.color_type = color;
    info.bit_depth = depth;
    change(&mut info);
    let mut file = Vec::new();
    let mut encoder = png::Encoder::with_info(&mut file, info).unwrap();
    encoder.set_compression(png::Compression::Fast);
    encoder.write_header().unwrap().write_image_data(samples).unwrap();
    file
}

/// A JPEG of raw samples, quality 95.
pub fn jpeg(width: u32, height: u32, color: ColorType, samples: &[u8], change: impl FnOnce(&mut Encoder<&mut Vec<u8>>)) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, 95);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    change(&mut encoder);
    encoder.encode(samples, width as u16, height as u16, color).unwrap();
    file
}

/// Something like a photograph: large shapes, soft shades, fine noise. RGB.
pub fn scene(width: u32, height: u32) -> Vec<u8> {
    let mut state = 0x2545_f491_u32;
    let mut pixels = Vec::with_capacity((width * height * 3) as usize);
    for y in 0..height {
        for x in 0..width {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            let (fx, fy) = (f64::from(x) / f64::from(width), f64::from(y) / f64::from(height));
            let waves = (fx * 23.0).sin() * (fy * 17.0).cos() * 40.0;
            let disc = if (fx - 0.6).powi(2) + (fy - 0.4).powi(2) < 0.04 { 60.0 } else { 0.0 };
            let noise = f64::from(state % 16);
            pixels.push((80.0 + 120.0 * fx + waves + noise).clamp(0.0, 255.0) as u8);
            pixels.push((60.0 + 100.0 * fy + disc + noise).clamp(0.0, 255.0) as u8);
            pixels.push((160.0 - 90.0 * fx * fy + waves / 2.0 + noise).clamp(0.0, 255.0) as u8);
        }
    }
    pixels
}

/// An EXIF record with nothing but an orientation.
pub fn exif(orientation: u16) -> Vec<u8> {
    let mut record = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01".to_vec();
    record.extend_from_slice(&orientation.to_be_bytes());
    record.extend_from_slice(&[0; 6]);
    record
}

/// Red, green, blue of a file that we wrote.
pub fn rgb(file: &[u8]) -> image::RgbImage {
    image::load_from_memory(file).unwrap().into_rgb8()
}

/// The mean of each channel.
pub fn mean(file: &[u8]) -> [f64; 3] {
    let image = rgb(file);
    let mut sums = [0.0; 3];
    for pixel in image.pixels() {
        for (sum, &value) in sums.iter_mut().zip(&pixel.0) {
            *sum += f64::from(value);
        }
    }
    sums.map(|sum| sum / f64::from(image.width() * image.height()))
}

/// Peak signal to noise in dB, over all channels.
pub fn psnr(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    let error: f64 = a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum::<f64>() / a.len() as f64;
    20.0 * 255f64.log10() - 10.0 * error.log10()
}
