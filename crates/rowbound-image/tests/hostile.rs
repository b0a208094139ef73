//! Files that were made to hurt: a clear error, in little time and memory. Each is opened in a process of its own, which measures itself.

mod common;

use std::io::Write;
use std::process::Command;
use std::time::Duration;

use common::{exif, gray_png, jpeg, png, rgb, scene};
use jpeg_encoder::ColorType as JpegColor;
use rowbound_image::processors::{SmartResize, Thumbnail};
use rowbound_image::{Format, Kind, Limit, Limits, Pipeline, probe};

/// What a refusal may cost: processor time, and memory of the whole process.
const TIME: Duration = Duration::from_millis(50);
const MEMORY: u64 = 64 << 20;

/// The variable that tells the child which file to open.
const FILE: &str = "ROWBOUND_HOSTILE_FILE";

fn thumbnail() -> Pipeline {
    Pipeline::new().then(Thumbnail::new(300, 300)).format(Format::Jpeg).quality(90)
}

/// The child: nothing unless [`FILE`] is set.
#[test]
fn child() {
    let Some(path) = std::env::var_os(FILE) else { return };
    let bytes = std::fs::read(path).unwrap();
    let cpu = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let before = cpu();
    let result = thumbnail().run(&bytes);
    let spent = cpu() - before;
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak: u64 = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim().trim_end_matches(" kB").parse().unwrap();
    let said = match result {
        Ok(picture) => format!("made {}x{}", picture.width, picture.height),
        Err(error) => format!("{:?}", error.kind()),
    };
    println!("\nRESULT|{said}|{}|{peak}", spent.as_micros());
}

/// What became of a file, with its processor time and peak memory in bytes.
fn opened(bytes: &[u8]) -> (String, Duration, u64) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let exe = std::env::current_exe().unwrap();
    let output = Command::new(exe).args(["child", "--exact", "--nocapture"]).env(FILE, file.path()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("RESULT|")).unwrap_or_else(|| panic!("{text} {:?}", output.status));
    let mut fields = line.split('|');
    let said = fields.next().unwrap().to_owned();
    let micros = fields.next().unwrap().parse().unwrap();
    let kilobytes: u64 = fields.next().unwrap().parse().unwrap();
    (said, Duration::from_micros(micros), kilobytes * 1024)
}

/// Opens a file and compares: the kind of its error, and what it cost.
fn refused(name: &str, bytes: &[u8], wanted: Kind) {
    let (said, spent, peak) = opened(bytes);
    println!("{name}: {} bytes, {said}, {spent:?}, {} MB", bytes.len(), peak >> 20);
    assert_eq!(said, format!("{wanted:?}"), "{name}");
    assert!(spent < TIME, "{name}: {spent:?}");
    assert!(peak < MEMORY, "{name}: {peak} bytes");
    let error = thumbnail().run(bytes).unwrap_err();
    assert!(error.hint_text().is_some(), "{name}: {error} has no hint");
}

fn chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(name);
    crc.update(data);
    [&(data.len() as u32).to_be_bytes()[..], name, data, &crc.sum().to_be_bytes()].concat()
}

/// Packs so many zeros.
fn zeros(mut count: usize) -> Vec<u8> {
    let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    let block = vec![0; 1 << 20];
    while count > 0 {
        let part = count.min(block.len());
        packer.write_all(&block[..part]).unwrap();
        count -= part;
    }
    packer.finish().unwrap()
}

/// A PNG of one bit a pixel, all black.
fn black(width: u32, height: u32, between: &[u8]) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[1, 0, 0, 0, 0]].concat();
    let data = zeros((width.div_ceil(8) as usize + 1) * height as usize);
    [&b"\x89PNG\r\n\x1a\n"[..], &chunk(b"IHDR", &header), between, &chunk(b"IDAT", &data), &chunk(b"IEND", b"")].concat()
}

fn photo() -> Vec<u8> {
    jpeg(1600, 1200, JpegColor::Rgb, &scene(1600, 1200), |_| {})
}

/// Says that a JPEG has another size.
fn resized(mut file: Vec<u8>, width: u16, height: u16) -> Vec<u8> {
    let frame = file.windows(2).position(|pair| matches!(pair, [0xff, 0xc0..=0xc2])).unwrap();
    file[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
    file[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
    file
}

/// A progressive JPEG whose last scan comes again and again.
fn scans(width: u16, height: u16, times: usize) -> Vec<u8> {
    let file = jpeg(320, 240, JpegColor::Rgb, &scene(320, 240), |encoder| encoder.set_progressive(true));
    let last = file.windows(2).rposition(|pair| pair == [0xff, 0xda]).unwrap();
    let end = file.len() - 2;
    let body = [&file[..end], &file[last..end].repeat(times), &file[end..]].concat();
    resized(body, width, height)
}

#[test]
fn a_png_of_900_megapixels() {
    let file = black(30_000, 30_000, &[]);
    assert!(file.len() < 120_000, "{}", file.len());
    refused("900 MP PNG", &file, Kind::TooLarge(Limit::Pixels));
}

#[test]
fn a_jpeg_that_claims_65000_pixels_a_side() {
    let small = jpeg(16, 16, JpegColor::Rgb, &[90; 768], |_| {});
    refused("65000x65000 JPEG", &resized(small.clone(), 65_000, 65_000), Kind::TooLarge(Limit::Width));
    refused("9000x9000 JPEG", &resized(small.clone(), 9_000, 9_000), Kind::Truncated);
    refused("JPEG without a height", &resized(small, 16, 0), Kind::Damaged);
}

#[test]
fn a_jpeg_with_scan_upon_scan() {
    refused("2000 scans", &scans(320, 240, 2000), Kind::TooLarge(Limit::Scans));
    refused("60 scans of 60 MP", &scans(10_000, 6_000, 60), Kind::TooLarge(Limit::Scans));
}

#[test]
fn records_that_are_too_large() {
    let profile = jpeg(16, 16, JpegColor::Rgb, &[90; 768], |encoder| encoder.add_icc_profile(&vec![1; 5_000_000]).unwrap());
    refused("JPEG with 5 MB of ICC", &profile, Kind::TooLarge(Limit::Metadata));
    let bomb = chunk(b"iCCP", &[b"x\0\0", &zeros(500 << 20)[..]].concat());
    refused("PNG whose ICC unpacks to 500 MB", &black(100, 100, &bomb), Kind::TooLarge(Limit::Metadata));
    let record = chunk(b"eXIf", &vec![0; 5_000_000]);
    refused("PNG with 5 MB of EXIF", &black(100, 100, &record), Kind::TooLarge(Limit::Metadata));
    let mut webp = Pipeline::new().format(Format::WebP).run(&gray_png(16, 16)).unwrap().bytes;
    webp.extend([&b"EXIF"[..], &5_000_000u32.to_le_bytes(), &vec![0; 5_000_000]].concat());
    let length = (webp.len() - 8) as u32;
    webp[4..8].copy_from_slice(&length.to_le_bytes());
    refused("WebP with 5 MB of EXIF", &webp, Kind::TooLarge(Limit::Metadata));
}

#[test]
fn texts_that_unpack_to_much_are_not_unpacked() {
    let bomb = chunk(b"zTXt", &[b"x\0\0", &zeros(500 << 20)[..]].concat());
    let (said, spent, peak) = opened(&black(100, 100, &bomb));
    assert_eq!(said, "made 100x100");
    assert!(spent < TIME && peak < MEMORY, "{spent:?}, {peak} bytes");
}

#[test]
fn files_that_are_cut_off() {
    let photo = photo();
    let as_other = |format| Pipeline::new().format(format).run(&photo).unwrap().bytes;
    for share in [0.02, 0.3, 0.6, 0.999] {
        let cut = |file: &[u8]| file[..(file.len() as f64 * share) as usize].to_vec();
        refused("cut JPEG", &cut(&photo), Kind::Truncated);
        refused("cut PNG", &cut(&as_other(Format::Png)), Kind::Truncated);
        refused("cut WebP", &cut(&as_other(Format::WebP)), Kind::Truncated);
    }
    for format in [Format::Gif, Format::Tiff, Format::Bmp] {
        let file = Pipeline::new().then(Thumbnail::new(300, 200)).format(format).run(&photo).unwrap().bytes;
        let error = thumbnail().run(&file[..file.len() / 2]).unwrap_err();
        assert!(matches!(error.kind(), Kind::Truncated | Kind::Damaged), "{format}: {error}");
    }
}

#[test]
fn a_jpeg_with_holes_is_damaged_and_not_gray() {
    let mut file = photo();
    let middle = file.len() / 2;
    // Nothing but ones is no Huffman code.
    file[middle..middle + 4000].copy_from_slice(&[0xff, 0].repeat(2000));
    let error = thumbnail().run(&file).unwrap_err();
    assert!(matches!(error.kind(), Kind::Damaged | Kind::Truncated), "{error}");
}

#[test]
fn a_jpeg_that_a_camera_padded_is_whole() {
    let photo = photo();
    let end = photo.len() - 2;
    let padded = [&photo[..end], &[0; 700], &photo[end..]].concat();
    assert_eq!(thumbnail().run(&padded).unwrap(), thumbnail().run(&photo).unwrap());
}

#[test]
fn what_is_no_picture() {
    refused("no bytes", b"", Kind::Unrecognised);
    refused("a text", b"This is not a picture, whatever its name says.\n", Kind::Unrecognised);
    refused("a page", b"<!DOCTYPE html><svg onload=alert(1)>", Kind::Unrecognised);
    refused("an archive", b"PK\x03\x04\x14\0\0\0\x08\0", Kind::Unrecognised);
    for start in [&b"\xff\xd8\xff"[..], b"\x89PNG\r\n\x1a\n", b"RIFF\x10\0\0\0WEBP", b"GIF89a", b"BM\0\0\0\0\0\0\0\0"] {
        refused("a beginning", start, Kind::Truncated);
    }
    let error = thumbnail().run(b"II\x2a\0").unwrap_err();
    assert!(matches!(error.kind(), Kind::Truncated | Kind::Damaged), "{error}");
}

#[test]
fn headers_that_lie() {
    refused("65535x65535 GIF", b"GIF89a\xff\xff\xff\xff\0\0\0\x2c\0\0\0\0\xff\xff\xff\xff\0\x02\x01\0\0\x3b", Kind::TooLarge(Limit::Width));
    let mut bmp = Pipeline::new().format(Format::Bmp).run(&gray_png(16, 16)).unwrap().bytes;
    bmp[18..22].copy_from_slice(&20_000i32.to_le_bytes());
    bmp[22..26].copy_from_slice(&(-20_000i32).to_le_bytes());
    refused("400 MP BMP", &bmp, Kind::TooLarge(Limit::Pixels));
    bmp[18..22].copy_from_slice(&i32::MIN.to_le_bytes());
    refused("2 GP BMP", &bmp, Kind::TooLarge(Limit::Width));
    let tiff = Pipeline::new().format(Format::Tiff).run(&gray_png(16, 16)).unwrap().bytes;
    let at = tiff.windows(4).position(|tag| matches!(tag, [0, 1, 3 | 4, 0])).unwrap();
    let mut huge = tiff.clone();
    huge[at + 2] = 4;
    huge[at + 8..at + 12].copy_from_slice(&4_000_000_000u32.to_le_bytes());
    let error = thumbnail().run(&huge).unwrap_err();
    assert!(matches!(error.kind(), Kind::TooLarge(_) | Kind::Damaged), "{error}");
}

#[test]
fn a_wrong_extension_and_a_second_file_behind_the_picture_change_nothing() {
    // What the bytes are decides: there is no name to be wrong.
    let photo = photo();
    let zip = b"PK\x03\x04 and what an archive holds <script>";
    let polyglot = [&photo[..], zip].concat();
    let made = thumbnail().run(&polyglot).unwrap();
    assert_eq!(made, thumbnail().run(&photo).unwrap());
    assert!(!made.bytes.windows(4).any(|part| part == b"PK\x03\x04"));
    // Even where nothing is done to it.
    assert!(!Pipeline::new().run(&polyglot).unwrap().bytes.windows(8).any(|part| part == b"<script>"));
    let texts = chunk(b"tEXt", b"Comment\0<script>alert(1)</script>");
    assert!(!Pipeline::new().run(&black(100, 100, &texts)).unwrap().bytes.windows(8).any(|part| part == b"<script>"));
}

#[test]
fn of_an_animation_the_first_frame() {
    let mut gif = Vec::new();
    {
        let mut encoder = image::codecs::gif::GifEncoder::new(&mut gif);
        for color in [[255, 0, 0, 255], [0, 0, 255, 255]] {
            encoder.encode_frame(image::Frame::new(image::RgbaImage::from_pixel(400, 300, image::Rgba(color)))).unwrap();
        }
    }
    let webp = animated_webp();
    for file in [gif, webp] {
        let header = probe(&file, &Limits::default()).unwrap();
        assert!(header.animated && (header.width, header.height) == (400, 300), "{header:?}");
        let made = thumbnail().run(&file).unwrap();
        let pixel = rgb(&made.bytes).get_pixel(150, 150).0;
        assert!(pixel[0] > 245 && pixel[2] < 10, "{pixel:?}");
    }
    let still = gray_png(20, 20);
    assert!(!probe(&Pipeline::new().format(Format::Gif).run(&still).unwrap().bytes, &Limits::default()).unwrap().animated);
}

/// Two frames, red and blue, of 400x300 pixels.
fn animated_webp() -> Vec<u8> {
    let part = |name: &[u8; 4], data: &[u8]| [&name[..], &(data.len() as u32).to_le_bytes(), data, &vec![0; data.len() % 2]].concat();
    let mut frames = Vec::new();
    for color in [[255, 0, 0], [0, 0, 255]] {
        let mut still = std::io::Cursor::new(Vec::new());
        image::RgbImage::from_pixel(400, 300, image::Rgb(color)).write_to(&mut still, image::ImageFormat::WebP).unwrap();
        let still = still.into_inner();
        let place = [0, 0, 0, 0, 0, 0, 143, 1, 0, 43, 1, 0, 100, 0, 0, 0];
        frames.extend(part(b"ANMF", &[&place[..], &still[12..]].concat()));
    }
    let extended = part(b"VP8X", &[2, 0, 0, 0, 143, 1, 0, 43, 1, 0]);
    let body = [&b"WEBP"[..], &extended, &part(b"ANIM", &[0; 6]), &frames].concat();
    part(b"RIFF", &body)
}

#[test]
fn a_line_is_not_blown_up_beyond_the_limit() {
    let file = png(1, 20_000, png::ColorType::Grayscale, png::BitDepth::Eight, &vec![7; 20_000], |_| {});
    let error = Pipeline::new().then(SmartResize::new(300, 300)).run(&file).unwrap_err();
    assert_eq!(error.kind(), Kind::TooLarge(Limit::Pixels), "{error}");
}

#[test]
fn limits_are_the_callers() {
    let file = jpeg(64, 48, JpegColor::Rgb, &scene(64, 48), |encoder| encoder.add_exif_metadata(&exif(6)).unwrap());
    for (limits, limit) in [
        (Limits { width: 63, ..Limits::default() }, Limit::Width),
        (Limits { height: 47, ..Limits::default() }, Limit::Height),
        (Limits { pixels: 3071, ..Limits::default() }, Limit::Pixels),
        (Limits { scans: 0, ..Limits::default() }, Limit::Scans),
        (Limits { metadata: 10, ..Limits::default() }, Limit::Metadata),
    ] {
        assert_eq!(probe(&file, &limits).unwrap_err().kind(), Kind::TooLarge(limit));
        assert_eq!(Pipeline::new().limits(limits).run(&file).unwrap_err().kind(), Kind::TooLarge(limit));
    }
    let memory = Limits { memory: 5000, ..Limits::default() };
    assert_eq!(Pipeline::new().limits(memory).run(&file).unwrap_err().kind(), Kind::TooLarge(Limit::Memory));
    assert_eq!(probe(&file, &Limits { width: 64, height: 48, pixels: 3072, ..Limits::default() }).unwrap().upright(), (48, 64));
}
