//! AVIF is written, with the feature `avif`, and read by nobody here: Pillow looks what was written.

mod common;

use common::{png, scene};
use png::{BitDepth, ColorType};
use rowbound_image::processors::Thumbnail;
use rowbound_image::{Format, Kind, Limits, Pipeline, probe};

fn pipeline() -> Pipeline {
    Pipeline::new().then(Thumbnail::new(64, 48)).format(Format::Avif)
}

fn photo() -> Vec<u8> {
    png(256, 192, ColorType::Rgb, BitDepth::Eight, &scene(256, 192), |_| {})
}

#[cfg(not(feature = "avif"))]
#[test]
fn without_the_feature_it_is_refused_with_its_name() {
    let error = pipeline().run(&photo()).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.hint_text().is_some_and(|hint| hint.contains("`avif`")), "{error}");
}

/// What says that it is one is told by its bytes, and refused before anything is decoded.
#[test]
fn it_is_recognised_and_not_read() {
    let file = b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf\0\0\0\x08meta";
    assert_eq!(Format::sniff(file), Some(Format::Avif));
    let error = probe(file, &Limits::default()).unwrap_err();
    assert!(error.kind() == Kind::Unsupported && error.hint_text().is_some(), "{error}");
    assert_eq!(Pipeline::new().run(file).unwrap_err().kind(), Kind::Unsupported);
}

#[cfg(feature = "avif")]
mod written {
    use std::path::Path;
    use std::process::Command;

    use common::{psnr, rgb};

    use super::*;

    /// The same picture as a PNG, by Pillow.
    fn by_pillow(file: &[u8]) -> Vec<u8> {
        let venv = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/pilkit-venv")).output().unwrap();
        assert!(venv.status.success(), "{}", String::from_utf8_lossy(&venv.stderr));
        let python = String::from_utf8(venv.stdout).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.avif"), file).unwrap();
        let script = "from PIL import Image; Image.open('a.avif').save('a.png')";
        let output = Command::new(python.trim()).current_dir(folder.path()).args(["-c", script]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::read(folder.path().join("a.png")).unwrap()
    }

    #[test]
    fn pillow_reads_what_is_written() {
        let wanted = Pipeline::new().then(Thumbnail::new(64, 48)).format(Format::Png).run(&photo()).unwrap();
        let mut before = 0;
        for (quality, decibels) in [(30, 24.0), (75, 30.0), (95, 36.0)] {
            let made = pipeline().quality(quality).run(&photo()).unwrap();
            assert_eq!((made.format, made.width, made.height), (Format::Avif, 64, 48));
            assert_eq!(Format::sniff(&made.bytes), Some(Format::Avif));
            assert!(made.bytes.len() > before, "quality {quality}: {} bytes, not more than {before}", made.bytes.len());
            before = made.bytes.len();
            let read = rgb(&by_pillow(&made.bytes));
            assert_eq!(read.dimensions(), (64, 48));
            let found = psnr(&read, &rgb(&wanted.bytes));
            println!("quality {quality}: {before} bytes, {found:.1} dB");
            assert!(found > decibels, "quality {quality}: {found} dB");
        }
    }

    #[test]
    fn transparency_stays() {
        let pixels: Vec<u8> = (0..64 * 48).flat_map(|n| [200, 100, 50, if n % 64 < 32 { 0 } else { 255 }]).collect();
        let source = png(64, 48, ColorType::Rgba, BitDepth::Eight, &pixels, |_| {});
        let made = Pipeline::new().format(Format::Avif).run(&source).unwrap();
        let read = image::load_from_memory(&by_pillow(&made.bytes)).unwrap().into_rgba8();
        let (left, right) = (read.get_pixel(8, 24).0, read.get_pixel(56, 24).0);
        assert!(left[3] < 8 && right[3] > 247, "{left:?} {right:?}");
        assert!(right.iter().zip([200, 100, 50]).all(|(&a, b): (&u8, u8)| a.abs_diff(b) < 8), "{right:?}");
    }

    #[test]
    fn what_is_written_is_not_read_back() {
        let made = pipeline().run(&photo()).unwrap();
        assert_eq!(Pipeline::new().run(&made.bytes).unwrap_err().kind(), Kind::Unsupported);
    }
}
