//! Thumbnails of files that somebody uploaded: small JPEGs, made within limits.
//!
//! In: names, and the storage that holds them. Out: a picture for each, or why there is none. Promise: whatever a file holds, it costs no more than
//! the limits, and what goes into a page is never the file itself but pixels that were encoded anew.

use std::{
    io::Cursor,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::Engine;
use futures_util::{StreamExt, stream};
use image::{DynamicImage, ImageDecoder, ImageReader, Limits, RgbImage, Rgba, codecs::jpeg::JpegEncoder};
use rowbound::{storage::Storage, sweep::Orphan};

/// A thumbnail's longer side, in pixels.
pub const SIDE: u32 = 160;

/// Files above this are not read, in bytes.
const BYTES: u64 = 32 << 20;

/// Pictures above this are not decoded, in pixels. Cameras of 2026 make up to 50 million without stitching.
const PIXELS: u64 = 64_000_000;

/// What a decoder may allocate, in bytes.
const MEMORY: u64 = 256 << 20;

/// How long one picture may take, from its first byte.
const EACH: Duration = Duration::from_secs(20);

/// How long all of a page's pictures may take.
pub const ALL: Duration = Duration::from_secs(300);

/// Pictures that are read and decoded at once, at most. Each may take [`MEMORY`].
const AT_ONCE: usize = 4;

/// What a page shows of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Picture {
    /// A JPEG as a `data:` URI, and its size in pixels.
    Thumbnail {
        /// The URI.
        uri: String,
        /// Its width.
        width: u32,
        /// Its height.
        height: u32,
    },
    /// Nothing to see, and why.
    Tile(&'static str),
}

/// Endings of names whose files are tried. A name without one is tried, too: uploads are often stored under a hash.
const ENDINGS: [&str; 10] = ["jpg", "jpeg", "jpe", "jfif", "png", "apng", "gif", "webp", "bmp", "dib"];

/// The ending of a name, if it has one that people would call so.
pub fn ending(name: &str) -> Option<String> {
    let base = name.rsplit('/').next().unwrap_or(name);
    let (stem, ending) = base.rsplit_once('.')?;
    let fine = !stem.is_empty() && (1..=5).contains(&ending.len()) && ending.bytes().all(|b| b.is_ascii_alphanumeric());
    fine.then(|| ending.to_ascii_lowercase())
}

/// A picture for each file, in order. What takes longer than `time` altogether is left out.
pub async fn pictures(storage: &Arc<dyn Storage>, files: &[Orphan], time: Duration) -> Vec<Picture> {
    let until = Instant::now() + time;
    stream::iter(files.iter().map(|file| async move {
        let left = until.saturating_duration_since(Instant::now()).min(EACH);
        if left.is_zero() {
            return Picture::Tile("no time was left for it");
        }
        match tokio::time::timeout(left, picture(storage, file)).await {
            Ok(picture) => picture,
            Err(_) => Picture::Tile("it took too long"),
        }
    }))
    .buffered(std::thread::available_parallelism().map_or(1, |n| n.get().min(AT_ONCE)))
    .collect()
    .await
}

async fn picture(storage: &Arc<dyn Storage>, file: &Orphan) -> Picture {
    match ending(file.name.as_str()).as_deref() {
        None => {
            // Only its beginning, to see whether it is one.
            match storage.read(&file.name, 32).await {
                Ok(Some(head)) if image::guess_format(&head).is_ok() => {}
                Ok(_) => return Picture::Tile("no picture"),
                Err(_) => return Picture::Tile("it cannot be read"),
            }
        }
        Some(ending) if ENDINGS.contains(&ending) => {}
        Some("svg" | "svgz") => return Picture::Tile("drawings are not shown"),
        Some(_) => return Picture::Tile("no picture"),
    }
    if file.size > BYTES {
        return Picture::Tile("too large to be shown");
    }
    match storage.read(&file.name, BYTES as usize).await {
        Ok(Some(bytes)) => match tokio::task::spawn_blocking(move || thumbnail(&bytes)).await {
            Ok(picture) => picture,
            // A decoder that panics is no reason to go without the page.
            Err(_) => Picture::Tile("it cannot be decoded"),
        },
        Ok(None) => Picture::Tile("it has gone meanwhile"),
        Err(_) => Picture::Tile("it cannot be read"),
    }
}

fn thumbnail(bytes: &[u8]) -> Picture {
    match decode(bytes) {
        Ok(Some(image)) => encode(&image).unwrap_or(Picture::Tile("it cannot be encoded")),
        Ok(None) => Picture::Tile("too many pixels to be shown"),
        Err(_) => Picture::Tile("it cannot be decoded"),
    }
}

/// The picture as its maker holds it, small, and its colours as far as they can be seen through it; `None` if it is too large.
fn decode(bytes: &[u8]) -> image::ImageResult<Option<DynamicImage>> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(MEMORY);
    reader.limits(limits);
    let mut decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > PIXELS {
        return Ok(None);
    }
    // Cameras write how they were held, and leave the pixels as they are.
    let turned = decoder.orientation()?;
    let mut image = DynamicImage::from_decoder(decoder)?;
    if image.color().has_alpha() {
        // Else what is made small would take colour from what cannot be seen.
        let mut seen = image.into_rgba8();
        for Rgba([r, g, b, a]) in seen.pixels_mut() {
            [*r, *g, *b] = [*r, *g, *b].map(|c| (u16::from(c) * u16::from(*a) / 255) as u8);
        }
        image = seen.into();
    }
    if width > SIDE || height > SIDE {
        image = image.thumbnail(SIDE, SIDE);
    }
    image.apply_orientation(turned);
    Ok(Some(image))
}

fn encode(image: &DynamicImage) -> Option<Picture> {
    let small = over_squares(image);
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, 75).encode_image(&small).ok()?;
    let uri = format!("data:image/jpeg;base64,{}", base64::engine::general_purpose::STANDARD.encode(jpeg));
    Some(Picture::Thumbnail { uri, width: small.width(), height: small.height() })
}

/// What is transparent shows squares of two greys, on which neither a white drawing nor a black one is lost.
fn over_squares(image: &DynamicImage) -> RgbImage {
    let DynamicImage::ImageRgba8(seen) = image else { return image.to_rgb8() };
    RgbImage::from_fn(seen.width(), seen.height(), |x, y| {
        let grey = if (x / 8 + y / 8) % 2 == 0 { 0xff_u16 } else { 0xd8 };
        let Rgba([r, g, b, a]) = *seen.get_pixel(x, y);
        image::Rgb([r, g, b].map(|c| (u16::from(c) + grey * (255 - u16::from(a)) / 255).min(255) as u8))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ImageFormat, RgbaImage};

    fn file(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn size(picture: &Picture) -> (u32, u32) {
        match picture {
            Picture::Thumbnail { width, height, .. } => (*width, *height),
            Picture::Tile(why) => panic!("{why}"),
        }
    }

    #[test]
    fn every_format_becomes_a_small_jpeg() {
        let image = DynamicImage::ImageRgba8(RgbaImage::from_pixel(640, 320, Rgba([200, 10, 10, 255])));
        for format in [ImageFormat::Png, ImageFormat::Gif, ImageFormat::WebP] {
            assert_eq!(size(&thumbnail(&file(&image, format))), (160, 80), "{format:?}");
        }
        let opaque = DynamicImage::ImageRgb8(image.to_rgb8());
        for format in [ImageFormat::Jpeg, ImageFormat::Bmp] {
            assert_eq!(size(&thumbnail(&file(&opaque, format))), (160, 80), "{format:?}");
        }
    }

    #[test]
    fn small_and_thin_pictures_keep_their_pixels() {
        let image = |w, h| DynamicImage::ImageRgb8(RgbImage::new(w, h));
        assert_eq!(size(&thumbnail(&file(&image(20, 10), ImageFormat::Png))), (20, 10));
        assert_eq!(size(&thumbnail(&file(&image(1, 4000), ImageFormat::Png))), (1, 160));
    }

    #[test]
    fn a_white_drawing_on_nothing_can_be_seen_and_nothing_has_no_colour() {
        let drawing = RgbaImage::from_fn(640, 640, |x, _| if x < 320 { Rgba([255, 255, 255, 255]) } else { Rgba([0, 0, 0, 0]) });
        let seen = over_squares(&decode(&file(&drawing.into(), ImageFormat::Png)).unwrap().unwrap());
        let grey = |x: u32, y: u32| seen.get_pixel(x, y).0;
        assert_eq!((grey(12, 0), grey(12, 8)), ([255; 3], [255; 3]), "white");
        assert_eq!((grey(100, 0), grey(100, 8)), ([0xff; 3], [0xd8; 3]), "squares");
        assert!(seen.pixels().all(|p| p.0[0] >= 0xd7), "nothing black shines through");
    }

    #[test]
    fn what_is_no_picture_or_too_much_is_a_tile() {
        assert_eq!(thumbnail(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), Picture::Tile("it cannot be decoded"));
        assert_eq!(thumbnail(b""), Picture::Tile("it cannot be decoded"));
        let whole = file(&DynamicImage::ImageRgb8(RgbImage::new(64, 64)), ImageFormat::Png);
        assert_eq!(thumbnail(&whole[..whole.len() / 2]), Picture::Tile("it cannot be decoded"));
        // A file of a few hundred bytes that says that it is 60,000 pixels wide and high.
        let mut bomb = whole;
        bomb[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
        let crc = crc(&bomb[12..29]);
        bomb[29..33].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(thumbnail(&bomb), Picture::Tile("too many pixels to be shown"));
    }

    /// PNG's checksum of a chunk.
    fn crc(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0_u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
        })
    }

    #[test]
    fn endings_are_what_people_call_so() {
        for (name, want) in [
            ("a/b.JPG", Some("jpg")),
            ("a.b/c", None),
            (".hidden", None),
            ("x.tar.gz", Some("gz")),
            ("x.", None),
            ("3f2a", None),
            ("a.b c", None),
        ] {
            assert_eq!(ending(name).as_deref(), want, "{name}");
        }
    }
}
