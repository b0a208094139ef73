//! Any bytes as an upload: a picture within the limits comes out, or an error; nothing panics, hangs or takes more memory than was allowed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rowbound_image::{Format, Limits, Pipeline, probe, processors::Thumbnail};

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits { width: 2000, height: 2000, pixels: 1_000_000, memory: 16 << 20, ..Limits::default() };
    let header = probe(bytes, &limits);
    match Pipeline::new().then(Thumbnail::new(16, 16)).format(Format::Png).limits(limits).run(bytes) {
        Ok(picture) => {
            let header = header.expect("what was refused by its header is not decoded");
            assert!(header.width <= 2000 && header.height <= 2000);
            assert!(picture.width <= 16 && picture.height <= 16);
        }
        // A panic of a decoder is caught in production; here it is a finding.
        Err(error) => assert!(!error.to_string().contains("gave up"), "{error}"),
    }
});
