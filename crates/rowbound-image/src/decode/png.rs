//! PNG, row by row.

use std::io::Cursor;

use png::{BitDepth, ColorType, Transformations};

use crate::error::{Error, Result};
use crate::header::png::Png;
use crate::limits::Limits;
use crate::raster::{Mode, Raster};
use crate::shrink::{self, Shrinker};

pub(crate) fn decode(png: &Png<'_>, target: Option<(u32, u32)>, limits: &Limits) -> Result<Raster> {
    let size = (png.header.width, png.header.height);
    let factor = shrink::factor(size, target);
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(png.bytes), png::Limits { bytes: limits.memory as usize });
    // The profile was read already, and texts may be compressed bombs.
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_ignore_text_chunk(true);
    decoder.set_transformations(Transformations::EXPAND);
    let mut reader = decoder.read_info().map_err(error)?;
    let (color, depth) = reader.output_color_type();
    let mode = match color {
        ColorType::Grayscale => Mode::Gray,
        ColorType::Rgb => Mode::Rgb,
        _ => Mode::Rgba,
    };
    let form = Form { gray_alpha: color == ColorType::GrayscaleAlpha, sixteen: depth == BitDepth::Sixteen };
    let line = reader.output_line_size(size.0).ok_or_else(|| Error::damaged("a PNG's rows"))?;
    let whole = if png.interlaced { line as u64 * u64::from(size.1) } else { 2 * line as u64 };
    limits.check_memory(super::shrunk_bytes(size, factor, mode) + whole)?;

    let mut shrinker = Shrinker::new(mode, size.0, size.1, factor);
    let mut row8 = Vec::new();
    if png.interlaced {
        // Seven passes over the picture: there is no last row before the last pass.
        let mut buffer = vec![0; reader.output_buffer_size().ok_or_else(|| Error::damaged("a PNG's size"))?];
        reader.next_frame(&mut buffer).map_err(error)?;
        buffer.chunks_exact(line).for_each(|row| shrinker.row(form.plain(row, &mut row8)));
    } else {
        for _ in 0..size.1 {
            let row = reader.next_row().map_err(error)?.ok_or_else(|| Error::truncated("a PNG's rows"))?;
            shrinker.row(form.plain(row.data(), &mut row8));
        }
    }
    super::from_shrinker(shrinker, size, mode)
}

/// How the decoder's rows differ from ours.
struct Form {
    gray_alpha: bool,
    sixteen: bool,
}

impl Form {
    /// A row with a byte per channel, in one of our modes. Sixteen bits are scaled, not cut or clipped.
    fn plain<'a>(&self, row: &'a [u8], buffer: &'a mut Vec<u8>) -> &'a [u8] {
        if !self.gray_alpha && !self.sixteen {
            return row;
        }
        buffer.clear();
        if self.sixteen {
            let (samples, _) = row.as_chunks::<2>();
            buffer.extend(samples.iter().map(|&sample| ((u32::from(u16::from_be_bytes(sample)) + 128) / 257) as u8));
        } else {
            buffer.extend_from_slice(row);
        }
        if self.gray_alpha {
            let (pixels, _) = buffer.as_chunks::<2>();
            *buffer = pixels.iter().flat_map(|&[gray, alpha]| [gray, gray, gray, alpha]).collect();
        }
        buffer
    }
}

fn error(error: png::DecodingError) -> Error {
    match error {
        png::DecodingError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Error::truncated("a PNG"),
        png::DecodingError::LimitsExceeded => {
            Error::new(crate::Kind::TooLarge(crate::Limit::Memory), "decoding the PNG needs more memory than allowed")
                .hint("upload a smaller picture, or raise the limit in `Limits`")
        }
        other => Error::damaged(other),
    }
}
