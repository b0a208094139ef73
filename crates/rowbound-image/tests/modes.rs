//! Pictures that are not plain RGB, and what pilkit gets wrong of them.

mod common;

use common::{exif, jpeg, mean, png, psnr, rgb, scene};
use jpeg_encoder::{ColorType as JpegColor, SamplingFactor};
use moxcms::ColorProfile;
use png::{BitDepth, ColorType};
use rowbound_image::processors::{Resize, ResizeToFit, Thumbnail, Transpose};
use rowbound_image::{Format, Limits, Orientation, Pipeline, probe};

fn near(found: [f64; 3], wanted: [f64; 3], by: f64) {
    assert!(found.iter().zip(wanted).all(|(found, wanted)| (found - wanted).abs() <= by), "{found:?}, not {wanted:?}");
}

fn small() -> Pipeline {
    Pipeline::new().then(Thumbnail::new(40, 30)).format(Format::Png)
}

#[test]
fn gray_with_16_bits_is_scaled_and_does_not_turn_white() {
    let samples = 24_415u16.to_be_bytes().repeat(400 * 300);
    near(mean(&small().run(&png(400, 300, ColorType::Grayscale, BitDepth::Sixteen, &samples, |_| {})).unwrap().bytes), [95.0; 3], 0.5);
}

#[test]
fn colours_with_16_bits_are_scaled() {
    let pixel: Vec<u8> = [51_400u16, 25_700, 12_850].iter().flat_map(|v| v.to_be_bytes()).collect();
    let file = png(400, 300, ColorType::Rgb, BitDepth::Sixteen, &pixel.repeat(400 * 300), |_| {});
    near(mean(&small().run(&file).unwrap().bytes), [200.0, 100.0, 50.0], 0.5);
}

#[test]
fn transparent_gray_becomes_white_and_not_black() {
    let file = png(400, 300, ColorType::GrayscaleAlpha, BitDepth::Eight, &[0, 0].repeat(400 * 300), |_| {});
    near(mean(&Pipeline::new().then(Thumbnail::new(40, 30)).format(Format::Jpeg).run(&file).unwrap().bytes), [255.0; 3], 0.5);
    let file = png(400, 300, ColorType::GrayscaleAlpha, BitDepth::Sixteen, &[50, 50, 0x80, 0x80].repeat(400 * 300), |_| {});
    // 50 at half opacity on white.
    near(mean(&Pipeline::new().then(Thumbnail::new(40, 30)).format(Format::Jpeg).run(&file).unwrap().bytes), [152.0; 3], 1.5);
}

#[test]
fn a_palette_keeps_its_transparency() {
    let file = png(400, 300, ColorType::Indexed, BitDepth::Eight, &[0, 1].repeat(400 * 150), |info| {
        info.palette = Some(vec![255, 0, 0, 0, 0, 255].into());
        info.trns = Some(vec![0, 255].into());
    });
    let made = small().run(&file).unwrap().bytes;
    let image = image::load_from_memory(&made).unwrap().into_rgba8();
    let pixel = image.get_pixel(20, 15).0;
    // The invisible red does not shine through: alpha is multiplied in while shrinking.
    assert!(pixel[0] < 3 && pixel[2] > 252 && pixel[3].abs_diff(128) < 3, "{pixel:?}");
    near(mean(&Pipeline::new().then(Thumbnail::new(40, 30)).format(Format::Jpeg).run(&file).unwrap().bytes), [127.5, 127.5, 255.0], 2.5);
}

#[test]
fn bits_and_bytes_of_palettes_and_gray() {
    for (depth, black) in [(BitDepth::One, 0x00), (BitDepth::Two, 0x00), (BitDepth::Four, 0x00)] {
        let per_byte = 8 / depth as usize;
        let rows = vec![black; 400usize.div_ceil(per_byte) * 300];
        near(mean(&small().run(&png(400, 300, ColorType::Grayscale, depth, &rows, |_| {})).unwrap().bytes), [0.0; 3], 0.0);
        let rows = vec![0xff; 400usize.div_ceil(per_byte) * 300];
        near(mean(&small().run(&png(400, 300, ColorType::Grayscale, depth, &rows, |_| {})).unwrap().bytes), [255.0; 3], 0.0);
    }
}

#[test]
fn inks_become_what_pillow_makes_of_them() {
    for color in [JpegColor::Cmyk, JpegColor::CmykAsYcck] {
        for sampling in [SamplingFactor::R_4_4_4, SamplingFactor::R_4_2_0] {
            for (progressive, apart) in [(false, false), (false, true), (true, true)] {
                let file = jpeg(640, 480, color, &[10, 20, 30, 40].repeat(640 * 480), |encoder| {
                    encoder.set_sampling_factor(sampling);
                    encoder.set_progressive(progressive);
                    encoder.set_optimized_huffman_tables(apart);
                });
                near(mean(&small().run(&file).unwrap().bytes), [207.0, 198.0, 190.0], 3.0);
                let whole = Pipeline::new().format(Format::Png).run(&file).unwrap();
                near(mean(&whole.bytes), [207.0, 198.0, 190.0], 3.0);
            }
        }
    }
}

/// Of such files zune-jpeg 0.5 makes green pictures without a word.
#[test]
fn components_that_come_one_after_the_other_are_read() {
    for (width, height) in [(480, 360), (2400, 1800)] {
        let pixels = scene(width, height);
        let reference = rgb(&small().run(&png(width, height, ColorType::Rgb, BitDepth::Eight, &pixels, |_| {})).unwrap().bytes);
        for sampling in [SamplingFactor::R_4_4_4, SamplingFactor::R_4_2_2, SamplingFactor::R_4_2_0] {
            let file = jpeg(width, height, JpegColor::Rgb, &pixels, |encoder| {
                encoder.set_sampling_factor(sampling);
                encoder.set_optimized_huffman_tables(true);
            });
            assert_eq!(file.windows(2).filter(|pair| pair == &[0xff, 0xda]).count(), 3, "as many scans as components");
            let found = psnr(&rgb(&small().run(&file).unwrap().bytes), &reference);
            assert!(found > 36.0, "{width}x{height} {sampling:?}: {found} dB");
        }
    }
}

/// Whoever reads what is written, reads the same: there is one scan unless it is progressive.
#[test]
fn a_jpeg_is_written_with_its_components_together() {
    let source = png(300, 200, ColorType::Rgb, BitDepth::Eight, &scene(300, 200), |_| {});
    let scans = |pipeline: Pipeline| {
        pipeline.format(Format::Jpeg).run(&source).unwrap().bytes.windows(2).filter(|pair| pair == &[0xff, 0xda]).count()
    };
    assert_eq!(scans(Pipeline::new()), 1);
    assert!(scans(Pipeline::new().progressive(true)) > 1);
}

#[test]
fn every_chroma_sampling_is_read() {
    let pixels = scene(480, 360);
    let reference = rgb(&small().run(&png(480, 360, ColorType::Rgb, BitDepth::Eight, &pixels, |_| {})).unwrap().bytes);
    for sampling in
        [SamplingFactor::R_4_4_4, SamplingFactor::R_4_2_2, SamplingFactor::R_4_2_0, SamplingFactor::R_4_1_1, SamplingFactor::R_4_4_0]
    {
        for progressive in [false, true] {
            let file = jpeg(480, 360, JpegColor::Rgb, &pixels, |encoder| {
                encoder.set_sampling_factor(sampling);
                encoder.set_progressive(progressive);
            });
            let found = psnr(&rgb(&small().run(&file).unwrap().bytes), &reference);
            assert!(found > 36.0, "{sampling:?} progressive {progressive}: {found} dB");
        }
    }
}

#[test]
fn every_orientation_is_turned_upright_on_the_small_picture() {
    use Orientation::*;
    let (width, height) = (480, 320);
    let upright = scene(width, height);
    let reference = rgb(&small().run(&png(width, height, ColorType::Rgb, BitDepth::Eight, &upright, |_| {})).unwrap().bytes);
    // What was stored is what the opposite turn makes of the upright picture.
    let opposite = [Normal, FlipHorizontal, Rotate180, FlipVertical, Transpose, Rotate270, Transverse, Rotate90];
    for (value, back) in (1..).zip(opposite) {
        let stored = Pipeline::new()
            .then(rowbound_image::processors::Transpose::new([back]))
            .format(Format::Png)
            .run(&png(width, height, ColorType::Rgb, BitDepth::Eight, &upright, |_| {}))
            .unwrap();
        let pixels = rgb(&stored.bytes);
        let files = [
            jpeg(stored.width, stored.height, JpegColor::Rgb, &pixels, |encoder| encoder.add_exif_metadata(&exif(value)).unwrap()),
            png(stored.width, stored.height, ColorType::Rgb, BitDepth::Eight, &pixels, |info| {
                info.exif_metadata = Some(exif(value).into())
            }),
        ];
        for file in files {
            let header = probe(&file, &Limits::default()).unwrap();
            assert_eq!((Some(header.orientation), header.upright()), (Orientation::from_exif(value), (width, height)), "{value}");
            let made = small().run(&file).unwrap();
            assert_eq!((made.width, made.height), (40, 30));
            let found = psnr(&rgb(&made.bytes), &reference);
            assert!(found > 36.0, "orientation {value}: {found} dB");
        }
    }
}

#[test]
fn a_pipeline_that_leaves_the_orientation_alone_obeys_transpose() {
    let file = jpeg(64, 48, JpegColor::Rgb, &scene(64, 48), |encoder| encoder.add_exif_metadata(&exif(6)).unwrap());
    let size = |pipeline: Pipeline| pipeline.run(&file).map(|made| (made.width, made.height)).unwrap();
    assert_eq!(size(Pipeline::new()), (48, 64));
    assert_eq!(size(Pipeline::new().upright(false)), (64, 48));
    assert_eq!(size(Pipeline::new().upright(false).then(Transpose::auto())), (48, 64));
    assert_eq!(size(Pipeline::new().then(Transpose::auto())), (48, 64));
    assert_eq!(size(Pipeline::new().upright(false).then(ResizeToFit::width(32)).then(Transpose::auto())), (24, 32));
}

/// Display P3's (234, 51, 35) is sRGB's pure red.
const P3_RED: [u8; 3] = [234, 51, 35];

fn p3() -> Vec<u8> {
    ColorProfile::new_display_p3().encode().unwrap()
}

#[test]
fn a_wide_gamut_is_converted_to_srgb() {
    let pixels = P3_RED.repeat(400 * 300);
    let as_jpeg = jpeg(400, 300, JpegColor::Rgb, &pixels, |encoder| encoder.add_icc_profile(&p3()).unwrap());
    let as_png = png(400, 300, ColorType::Rgb, BitDepth::Eight, &pixels, |info| info.icc_profile = Some(p3().into()));
    for file in [as_jpeg, as_png] {
        assert!(probe(&file, &Limits::default()).unwrap().profile);
        near(mean(&small().run(&file).unwrap().bytes), [255.0, 0.0, 0.0], 4.0);
    }
}

#[test]
fn a_profile_is_kept_where_that_is_asked_for() {
    let profile = p3();
    let file = png(400, 300, ColorType::Rgb, BitDepth::Eight, &P3_RED.repeat(400 * 300), |info| info.icc_profile = Some(p3().into()));
    for format in [Format::Jpeg, Format::Png, Format::WebP] {
        let pipeline = Pipeline::new().then(Thumbnail::new(40, 30)).format(format).quality(95);
        let stripped = pipeline.run(&file).unwrap();
        assert!(!probe(&stripped.bytes, &Limits::default()).unwrap().profile, "{format}");
        let kept = pipeline.keep_profile(true).run(&file).unwrap();
        assert!(probe(&kept.bytes, &Limits::default()).unwrap().profile, "{format}");
        near(mean(&kept.bytes), P3_RED.map(f64::from), 4.0);
        if format != Format::Png {
            assert!(kept.bytes.windows(profile.len()).any(|part| part == profile), "{format}");
        }
        // Read again, it is the same red.
        near(mean(&small().run(&kept.bytes).unwrap().bytes), [255.0, 0.0, 0.0], 5.0);
    }
}

#[test]
fn a_profile_that_nobody_can_read_changes_nothing() {
    let file = jpeg(64, 48, JpegColor::Rgb, &[10, 200, 30].repeat(64 * 48), |encoder| encoder.add_icc_profile(&[7; 500]).unwrap());
    near(mean(&Pipeline::new().format(Format::Png).run(&file).unwrap().bytes), [10.0, 200.0, 30.0], 3.0);
}

#[test]
fn metadata_stays_behind() {
    let file = jpeg(64, 48, JpegColor::Rgb, &scene(64, 48), |encoder| {
        encoder.add_exif_metadata(&exif(1)).unwrap();
        encoder.add_app_segment(1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta>GPS</x:xmpmeta>".to_vec()).unwrap();
    });
    for format in [Format::Jpeg, Format::Png, Format::WebP, Format::Gif, Format::Tiff, Format::Bmp] {
        let made = Pipeline::new().format(format).run(&file).unwrap();
        assert_eq!(Format::sniff(&made.bytes), Some(format));
        for word in [&b"Exif"[..], b"eXIf", b"EXIF", b"GPS", b"adobe"] {
            assert!(!made.bytes.windows(word.len()).any(|part| part == word), "{format}: {}", String::from_utf8_lossy(word));
        }
    }
}

#[test]
fn every_format_that_is_written_is_read_again() {
    let pixels = scene(120, 90);
    let source = png(120, 90, ColorType::Rgb, BitDepth::Eight, &pixels, |_| {});
    for (format, decibels) in
        [(Format::Jpeg, 30.0), (Format::Png, 90.0), (Format::WebP, 28.0), (Format::Gif, 24.0), (Format::Tiff, 90.0), (Format::Bmp, 90.0)]
    {
        let file = Pipeline::new().format(format).quality(92).run(&source).unwrap().bytes;
        let header = probe(&file, &Limits::default()).unwrap();
        assert_eq!((header.format, header.width, header.height), (format, 120, 90));
        // Without a format a picture keeps its own.
        let again = Pipeline::new().then(Resize::new(60, 45)).run(&file).unwrap();
        assert_eq!((again.format, again.width, again.height), (format, 60, 45));
        let found = psnr(&rgb(&Pipeline::new().format(Format::Png).run(&file).unwrap().bytes), &pixels);
        assert!(found > decibels, "{format}: {found} dB");
    }
}

#[test]
fn options_of_jpeg_take_effect() {
    let source = png(300, 200, ColorType::Rgb, BitDepth::Eight, &scene(300, 200), |_| {});
    let made = |pipeline: Pipeline| pipeline.format(Format::Jpeg).run(&source).unwrap().bytes;
    let sof = |file: &[u8], marker: u8| file.windows(2).any(|pair| pair == [0xff, marker]);
    let plain = made(Pipeline::new());
    assert!(sof(&plain, 0xc0) && !sof(&plain, 0xc2));
    assert!(sof(&made(Pipeline::new().progressive(true)), 0xc2));
    assert_eq!(plain, made(Pipeline::new().quality(75)));
    assert!(made(Pipeline::new().quality(95)).len() > 2 * plain.len());
    // 4:2:0: the first component has twice the others' samples in both directions.
    let frame = plain.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    assert_eq!((plain[frame + 11], plain[frame + 14]), (0x22, 0x11));
}

#[test]
fn webp_without_loss_is_exact() {
    let pixels = scene(80, 60);
    let source = png(80, 60, ColorType::Rgb, BitDepth::Eight, &pixels, |_| {});
    let file = Pipeline::new().format(Format::WebP).lossless(true).run(&source).unwrap().bytes;
    assert_eq!(rgb(&file).into_raw(), pixels);
}

#[test]
fn an_interlaced_png_is_the_same_picture() {
    // The smallest that has all seven passes and is shrunk.
    let file = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interlaced.png")).unwrap();
    let plain = png(64, 48, ColorType::Rgb, BitDepth::Eight, &gradient(), |_| {});
    let tiny = Pipeline::new().then(Thumbnail::new(8, 6)).format(Format::Png);
    assert_eq!(tiny.run(&file).unwrap(), tiny.run(&plain).unwrap());
}

fn gradient() -> Vec<u8> {
    (0..48u32).flat_map(|y| (0..64u32).flat_map(move |x| [(x * 4) as u8, (y * 5) as u8, ((x + y) * 2) as u8])).collect()
}
