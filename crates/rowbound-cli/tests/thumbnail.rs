//! `rowbound thumbnail`, from the real binary: what it makes, says and refuses.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use rowbound_testkit::Output;

fn thumbnail(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rowbound"));
    command.arg("thumbnail").args(args).current_dir(folder).env("NO_COLOR", "1").stdin(Stdio::null());
    for name in ["DATABASE_URL", "ROWBOUND_CONFIG", "ROWBOUND_LOG", "RUST_LOG", "COLUMNS", "LINES"] {
        command.env_remove(name);
    }
    let done = command.output().expect("cannot start rowbound");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Output { code: done.status.code(), signal: None, stdout: text(done.stdout), stderr: text(done.stderr) }
}

#[cfg(not(feature = "images"))]
#[test]
fn without_the_feature_it_says_how_to_get_it() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("a.png"), b"").expect("a file");
    let output = thumbnail(folder.path(), &["a.png", "b.png", "--size", "30x30"]).expect(2);
    assert!(output.stderr.contains("cargo install rowbound-cli --features images"), "{}", output.stderr);
    assert!(!folder.path().join("b.png").exists());
}

#[cfg(feature = "images")]
mod made {
    use super::*;
    use image::{ImageFormat, Rgb, RgbImage};

    /// A folder with pictures, a text and a folder for the thumbnails.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let picture = RgbImage::from_fn(640, 480, |x, y| Rgb([(x / 3) as u8, (y / 2) as u8, 90]));
        for (name, format) in [("a.jpeg", ImageFormat::Jpeg), ("b.png", ImageFormat::Png), ("c.txt", ImageFormat::WebP)] {
            picture.save_with_format(folder.path().join(name), format).expect("a picture");
        }
        fs::write(folder.path().join("d.jpg"), b"no picture\n").expect("a file");
        fs::create_dir(folder.path().join("out")).expect("a folder");
        folder
    }

    fn size(path: &Path) -> (u32, u32) {
        image::ImageReader::open(path).expect("a file").with_guessed_format().expect("a format").into_dimensions().expect("a size")
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
        names.sort();
        names
    }

    /// Sizes of files are the codecs' affair.
    fn shown(output: &Output) -> String {
        let text = format!("{}--- stderr\n{}--- status {:?}\n", output.stdout, output.stderr, output.code);
        let sizes = regex(&text, r"\d+(\.\d)? k?B$", "[size]");
        regex(&sizes, r#""bytes": \d+"#, r#""bytes": [bytes]"#)
    }

    fn regex(text: &str, pattern: &str, by: &str) -> String {
        let pattern = regex::RegexBuilder::new(pattern).multi_line(true).build().expect("a pattern");
        pattern.replace_all(text, by).into_owned()
    }

    #[test]
    fn many_files_go_into_a_folder_and_failures_stay_with_their_file() {
        let folder = folder();
        let args = ["a.jpeg", "b.png", "c.txt", "d.jpg", "gone.jpg", "out", "--size", "60x60"];
        let output = thumbnail(folder.path(), &args).expect(1);
        insta::assert_snapshot!("thumbnail", shown(&output));
        let out = folder.path().join("out");
        // A picture keeps its format; its extension only where that is one of the format's.
        assert_eq!(names(&out), ["a.jpeg", "b.png", "c.webp"]);
        assert!(names(&out).iter().all(|name| size(&out.join(name)) == (60, 60)));
        assert_eq!(fs::metadata(out.join("a.jpeg")).expect("a file").permissions().mode() & 0o777, 0o644);

        // Again: nothing is overwritten.
        let before = fs::read(out.join("b.png")).expect("a file");
        let output = thumbnail(folder.path(), &["b.png", "out", "--size", "50x50", "--format", "json"]).expect(1);
        insta::assert_snapshot!("thumbnail_there_json", shown(&output));
        assert_eq!(fs::read(out.join("b.png")).expect("a file"), before);
        let output = thumbnail(folder.path(), &["b.png", "out", "--size", "50x50", "--format", "json", "--force"]).expect(0);
        insta::assert_snapshot!("thumbnail_json", shown(&output));
        assert_eq!(size(&out.join("b.png")), (50, 50));
        assert_eq!(names(&out).len(), 3, "nothing half-written stays");
    }

    #[test]
    fn one_file_becomes_the_file_that_was_named() {
        let folder = folder();
        let sizes = |name: &str, args: &[&str]| {
            thumbnail(folder.path(), &[&["b.png", name], args].concat()).expect(0);
            let bytes = fs::read(folder.path().join(name)).expect("a file");
            (size(&folder.path().join(name)), image::guess_format(&bytes).expect("a format"))
        };
        assert_eq!(sizes("1.jpg", &["--size", "60x60"]), ((60, 60), ImageFormat::Jpeg));
        assert_eq!(sizes("2.webp", &["--size", "60x"]), ((60, 45), ImageFormat::WebP));
        assert_eq!(sizes("3.jpg", &["--size", "x45", "--as", "png"]), ((60, 45), ImageFormat::Png));
        assert_eq!(sizes("4", &["--size", "60x60", "--processor", "resize-to-fit"]), ((60, 45), ImageFormat::Png));
        assert_eq!(sizes("5.jpg", &["--size", "60x60", "--processor", "resize-to-cover"]), ((80, 60), ImageFormat::Jpeg));
        assert_eq!(sizes("6.jpg", &["--size", "900x900"]), ((640, 480), ImageFormat::Jpeg));
        assert_eq!(sizes("7.jpg", &["--size", "900x900", "--upscale", "true"]), ((900, 900), ImageFormat::Jpeg));
        assert_eq!(sizes("8.jpg", &["--size", "60x60", "--anchor", "tl"]), ((60, 60), ImageFormat::Jpeg));
        let larger = |a: &str, b: &str| {
            fs::metadata(folder.path().join(a)).expect("a").len() > fs::metadata(folder.path().join(b)).expect("b").len()
        };
        sizes("9.jpg", &["--size", "60x60", "--quality", "98", "--progressive"]);
        assert!(larger("9.jpg", "1.jpg"));
    }

    #[test]
    fn two_originals_of_one_name_do_not_take_each_others_place() {
        let folder = folder();
        fs::create_dir(folder.path().join("more")).expect("a folder");
        fs::copy(folder.path().join("b.png"), folder.path().join("more/b.png")).expect("a copy");
        let output = thumbnail(folder.path(), &["b.png", "more/b.png", "out", "--size", "60x60", "--force", "--jobs", "1"]).expect(1);
        assert!(output.stdout.contains("another picture has the same name"), "{}", output.stdout);
        assert_eq!(names(&folder.path().join("out")), ["b.png"]);
    }

    #[test]
    fn mistakes_are_found_before_anything_is_read() {
        let folder = folder();
        for (args, said) in [
            (&["b.png", "out", "--size", "60"][..], "write WIDTHxHEIGHT"),
            (&["b.png", "--size", "60x60"], "IN"),
            (&["a.jpeg", "b.png", "nowhere", "--size", "60x60"], "mkdir -p nowhere"),
            (&["b.png", "out", "--size", "60x", "--processor", "resize"], "resize needs both a width and a height"),
            (&["b.png", "out", "--size", "60x60", "--anchor", "middle"], "known are: tl"),
            (&["b.png", "out", "--size", "60x60", "--processor", "smart-crop", "--anchor", "t"], "smart-crop has no anchor"),
            (&["b.png", "out", "--size", "60x60", "--as", "gifs"], "known are: jpeg"),
            (&["b.png", "out", "--size", "60x60", "--quality", "0"], "--quality"),
        ] {
            let output = thumbnail(folder.path(), args).expect(2);
            assert!(output.stderr.contains(said), "{args:?}: {}", output.stderr);
        }
        assert!(names(&folder.path().join("out")).is_empty());
    }
}
