//! What can be typed about pictures, for every command that does something with them.

use clap::ValueEnum;

/// Where `--help` lists what is done with pictures.
pub const PICTURES: &str = "Pictures";

/// What is done with pictures, for every command that does something with them.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = PICTURES)]
pub struct PictureArgs {
    /// How they come to that size
    #[arg(long, value_enum, value_name = "NAME", default_value_t = Processor::Thumbnail, requires = "size")]
    pub processor: Processor,
    /// Which part stays where something is cut: tl, t, tr, l, c, r, bl, b or br (top left, .., bottom right)
    #[arg(long, value_name = "ANCHOR", requires = "size")]
    pub anchor: Option<String>,
    /// Whether smaller pictures are enlarged [default: true, but false for --processor thumbnail]
    #[arg(long, value_name = "BOOL", requires = "size")]
    pub upscale: Option<bool>,
    /// Their format: jpeg, png, webp, gif, tiff, bmp [default: of a thumbnail, by OUT's extension; else the picture's own]
    #[arg(long = "as", value_name = "FORMAT", value_parser = picture_format)]
    pub format_of_pictures: Option<PictureFormat>,
    /// The quality of JPEG and WebP [default: 75 for JPEG, 80 for WebP]
    #[arg(long, value_name = "1..100", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub quality: Option<u8>,
    /// Write a JPEG that appears in several passes
    #[arg(long)]
    pub progressive: bool,
    /// Keep the picture's colour profile instead of converting to sRGB
    #[arg(long)]
    pub keep_profile: bool,
}

/// Width and height in pixels; at least one is given.
pub type Size = (Option<u32>, Option<u32>);

/// A format of pictures; without the feature `images` nothing but a name.
#[cfg(feature = "images")]
pub type PictureFormat = rowbound_image::Format;
/// A format of pictures; without the feature `images` nothing but a name.
#[cfg(not(feature = "images"))]
pub type PictureFormat = String;

#[cfg(feature = "images")]
fn picture_format(text: &str) -> Result<PictureFormat, String> {
    PictureFormat::from_name(text).ok_or_else(|| "known are: jpeg, png, webp, gif, tiff, bmp".to_owned())
}

#[cfg(not(feature = "images"))]
fn picture_format(text: &str) -> Result<PictureFormat, String> {
    Ok(text.to_owned())
}

/// How a picture comes to a size: docs/images.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Processor {
    /// Cut to the size where the least is to be seen; with one side given, fitted
    Thumbnail,
    /// Stretched to exactly the size
    Resize,
    /// Covering the size, then cut
    ResizeToFill,
    /// As large as fits
    ResizeToFit,
    /// As small as covers
    ResizeToCover,
    /// Covering the size, then cut where the least is to be seen
    SmartResize,
    /// Cut, not resized
    Crop,
    /// Cut where the least is to be seen, not resized
    SmartCrop,
}

impl std::fmt::Display for Processor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}

/// A size in pixels: `300x200`, `300x` or `x200`.
pub fn size(text: &str) -> Result<Size, String> {
    let side = |text: &str| match text {
        "" => Some(None),
        number => number.parse().ok().filter(|&n: &u32| n > 0).map(Some),
    };
    text.split_once('x')
        .and_then(|(width, height)| Some((side(width)?, side(height)?)))
        .filter(|size| *size != (None, None))
        .ok_or_else(|| "write WIDTHxHEIGHT in pixels, such as 300x200; one of them may be left out: 300x or x200".to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes_are_read() {
        assert_eq!(super::size("300x200"), Ok((Some(300), Some(200))));
        assert_eq!(super::size("300x"), Ok((Some(300), None)));
        assert_eq!(super::size("x200"), Ok((None, Some(200))));
        for wrong in ["", "x", "300", "0x3", "-1x3", "3x3x3", "3 x 3"] {
            assert!(super::size(wrong).is_err(), "{wrong}");
        }
    }
}
