//! Whatever the bytes are: an answer, never a panic, never more than the limits. Pictures are changed at random, most of all in the places that parsers
//! read (lengths, sizes, markers, chunk names, EXIF directories).
//!
//! The long form is `soak_fuzz_ten_minutes` (`make soak`). `make fuzz` does the same guided by coverage, with libFuzzer.

mod common;

use std::time::{Duration, Instant};

use common::{exif, jpeg, png, scene};
use jpeg_encoder::ColorType as JpegColor;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rowbound_image::processors::Thumbnail;
use rowbound_image::{Format, Kind, Limits, Orientation, Pipeline, probe};

/// Small pictures of every format, with all that parsers look at.
fn seeds() -> Vec<Vec<u8>> {
    let (width, height) = (48, 40);
    let pixels = scene(width, height);
    let plain = png(width, height, png::ColorType::Rgb, png::BitDepth::Eight, &pixels, |info| {
        info.exif_metadata = Some(exif(6).into());
        info.icc_profile = Some(moxcms::ColorProfile::new_display_p3().encode().unwrap().into());
    });
    let gray16 = png(width, height, png::ColorType::GrayscaleAlpha, png::BitDepth::Sixteen, &[90; 48 * 40 * 4], |_| {});
    let mut seeds = vec![plain.clone(), gray16, std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interlaced.png")).unwrap()];
    for format in [Format::Jpeg, Format::WebP, Format::Gif, Format::Tiff, Format::Bmp] {
        seeds.push(Pipeline::new().format(format).keep_profile(true).run(&plain).unwrap().bytes);
    }
    seeds.push(Pipeline::new().format(Format::WebP).lossless(true).run(&plain).unwrap().bytes);
    for progressive in [false, true] {
        seeds.push(jpeg(width, height, JpegColor::Rgb, &pixels, |encoder| {
            encoder.set_progressive(progressive);
            encoder.add_exif_metadata(&exif(3)).unwrap();
            encoder.add_icc_profile(&moxcms::ColorProfile::new_display_p3().encode().unwrap()).unwrap();
        }));
    }
    seeds.push(jpeg(width, height, JpegColor::Cmyk, &[50; 48 * 40 * 4], |_| {}));
    seeds
}

/// Changes a picture: bits, bytes, interesting numbers, cuts, repetitions, parts of another one.
fn mutated(seed: &[u8], other: &[u8], random: &mut StdRng) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..random.random_range(1..=6) {
        if bytes.is_empty() {
            break;
        }
        // Headers are in front.
        let most = if random.random_bool(0.7) { bytes.len().min(200) } else { bytes.len() };
        let at = random.random_range(0..most);
        match random.random_range(0..8) {
            0 => bytes[at] ^= 1 << random.random_range(0..8),
            1 => bytes[at] = random.random(),
            2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xfe, 0xff][random.random_range(0..6)],
            3 => {
                let number: u32 = [0, 1, 0xffff, 0x1_0000, 0x7fff_ffff, 0xffff_ffff][random.random_range(0..6)];
                let number = if random.random() { number.to_be_bytes() } else { number.to_le_bytes() };
                let end = (at + 4).min(bytes.len());
                bytes[at..end].copy_from_slice(&number[..end - at]);
            }
            4 => bytes.truncate(at),
            5 => {
                let end = (at + random.random_range(1..64)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            6 => {
                let end = (at + random.random_range(1..16)).min(bytes.len());
                bytes.drain(at..end);
            }
            _ => {
                let from = random.random_range(0..other.len());
                let part = other[from..(from + 64).min(other.len())].to_vec();
                bytes.splice(at..at, part);
            }
        }
    }
    bytes
}

/// Small limits, so that no try takes long, and a check of everything that is promised.
fn open(bytes: &[u8]) {
    let limits = Limits { width: 2000, height: 2000, pixels: 1_000_000, memory: 16 << 20, ..Limits::default() };
    let started = Instant::now();
    let header = probe(bytes, &limits);
    let made = Pipeline::new().then(Thumbnail::new(16, 16)).format(Format::Png).limits(limits).run(bytes);
    match (&header, &made) {
        (Ok(header), Ok(picture)) => {
            assert!(header.width <= 2000 && header.height <= 2000);
            assert!(picture.width <= 16 && picture.height <= 16, "{header:?} {picture:?}");
        }
        (Err(_), Ok(picture)) => panic!("{picture:?} of a header that was refused"),
        (_, Err(error)) => assert!(!error.to_string().contains("gave up"), "a decoder panicked"),
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{header:?} took {:?}", started.elapsed());
}

fn fuzz(time: Duration, start: u64) -> u64 {
    let seeds = seeds();
    let deadline = Instant::now() + time;
    let mut tries = 0;
    while Instant::now() < deadline {
        let number = start + tries;
        let mut random = StdRng::seed_from_u64(number);
        let (seed, other) = (&seeds[random.random_range(0..seeds.len())], &seeds[random.random_range(0..seeds.len())]);
        let bytes = mutated(seed, other, &mut random);
        if std::panic::catch_unwind(|| open(&bytes)).is_err() {
            panic!("picture {number} broke it");
        }
        tries += 1;
    }
    tries
}

#[test]
fn changed_pictures_are_opened_or_refused_for_twenty_seconds() {
    let tries = fuzz(Duration::from_secs(20), 0);
    println!("{tries} pictures");
    assert!(tries > 500, "{tries}");
}

#[test]
#[ignore = "ten minutes: make soak"]
fn soak_fuzz_ten_minutes() {
    let start = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() << 32;
    println!("from {start}: {} pictures", fuzz(Duration::from_secs(600), start));
}

/// A JPEG with nothing but this record: what the parser says of it.
fn with_exif(record: &[u8]) -> Vec<u8> {
    let small = jpeg(16, 16, JpegColor::Rgb, &[90; 768], |_| {});
    let segment = [&[0xff, 0xe1][..], &((record.len() + 8) as u16).to_be_bytes(), b"Exif\0\0", record].concat();
    [&small[..2], &segment, &small[2..]].concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_behind_a_beginning(start in 0usize..8, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let starts: [&[u8]; 8] =
            [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\xff\0\0\0WEBP", b"GIF89a", b"BM\0\0\0\0\0\0\0\0", b"II\x2a\0", b"MM\0\x2a", b""];
        open(&[starts[start], &bytes].concat());
    }

    #[test]
    fn any_exif_record(bytes in prop::collection::vec(any::<u8>(), 0..200), little: bool) {
        let head: &[u8] = if little { b"II\x2a\0" } else { b"MM\0\x2a" };
        let file = with_exif(&[head, &bytes].concat());
        // It is never a reason to refuse a picture.
        prop_assert!(probe(&file, &Limits::default()).is_ok());
    }

    #[test]
    fn an_orientation_is_found_in_either_byte_order_behind_other_entries(value in 0u16..12, entries in 0usize..20, little: bool, long: bool) {
        let short = |n: u16| if little { n.to_le_bytes() } else { n.to_be_bytes() };
        let word = |n: u32| if little { n.to_le_bytes() } else { n.to_be_bytes() };
        let mut record = if little { b"II\x2a\0".to_vec() } else { b"MM\0\x2a".to_vec() };
        record.extend(word(8));
        record.extend(short(entries as u16 + 1));
        for entry in 0..entries {
            record.extend([&short(0x100 + entry as u16 % 16)[..], &short(3), &word(1), &word(7)].concat());
        }
        record.extend([&short(0x112)[..], &short(if long { 4 } else { 3 }), &word(1)].concat());
        if long {
            record.extend(word(value.into()));
        } else {
            record.extend([short(value), [0, 0]].concat());
        }
        let found = probe(&with_exif(&record), &Limits::default()).unwrap().orientation;
        prop_assert_eq!(found, Orientation::from_exif(value).unwrap_or_default());
    }

    #[test]
    fn a_jpegs_size_is_read_behind_any_segments(width in 1u16..2000, height in 1u16..2000, segments in prop::collection::vec((0xe0u8..=0xef, prop::collection::vec(any::<u8>(), 0..40)), 0..6)) {
        let mut file = vec![0xff, 0xd8];
        for (marker, content) in segments {
            file.extend([&[0xff, marker][..], &((content.len() + 2) as u16).to_be_bytes(), &content].concat());
        }
        file.extend([0xff, 0xc0, 0, 11, 8]);
        file.extend([height.to_be_bytes(), width.to_be_bytes()].concat());
        file.extend([1, 1, 0x11, 0, 0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0]);
        file.extend(vec![0x55; usize::from(width) * usize::from(height) / 256 + 1]);
        file.extend([0xff, 0xd9]);
        match probe(&file, &Limits::default()) {
            Ok(header) => prop_assert_eq!((header.width, header.height), (width.into(), height.into())),
            Err(error) => prop_assert!(matches!(error.kind(), Kind::TooLarge(_)), "{}", error),
        }
    }
}
