//! Thumbnails of 300x300 pixels, JPEG quality 90, of all files of a folder: what `scripts/bench-images` measures beside Pillow with pilkit, and sharp.
//!
//!     thumbnails FROM TO
//!
//! One picture after the other, in one thread. Nothing is printed: the caller measures the process.

use std::path::PathBuf;
use std::process::ExitCode;

use rowbound_image::processors::Thumbnail;
use rowbound_image::{Format, Pipeline};

fn main() -> ExitCode {
    let folders: Vec<PathBuf> = std::env::args_os().skip(1).filter(|arg| arg != "--bench").map(Into::into).collect();
    let [from, to] = folders.as_slice() else {
        eprintln!("run it by `make bench-images`: it wants a folder of pictures and one for the thumbnails");
        return ExitCode::SUCCESS;
    };
    let pipeline = Pipeline::new().then(Thumbnail::new(300, 300)).format(Format::Jpeg).quality(90);
    let mut files: Vec<PathBuf> = std::fs::read_dir(from).expect("a folder").map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    for file in files {
        let bytes = std::fs::read(&file).expect("a file");
        let picture = pipeline.run(&bytes).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        std::fs::write(to.join(file.file_name().expect("a name")), picture.bytes).expect("cannot write");
    }
    ExitCode::SUCCESS
}
