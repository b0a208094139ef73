//! The sizes that pilkit 3.0 with Pillow 13 makes, for twelve pairs of sizes and fourteen forms of its processors.

mod common;

use common::{gray_jpeg, gray_png};
use rowbound_image::processors::{Anchor, Crop, Processor, Resize, ResizeToCover, ResizeToFill, ResizeToFit, SmartResize, Thumbnail};
use rowbound_image::{Format, Pipeline};

/// From and to, then one size per form, in the order of [`forms`].
const PILKIT: &str = "\
640x427->300x300 300x300 300x300 300x200 300x300 300x200 300x300 300x300 300x200 300x200 300x300 450x300 300x300 300x300 300x300
1920x1280->300x300 300x300 300x300 300x200 300x300 300x200 300x300 300x300 300x200 300x200 300x300 450x300 300x300 300x300 300x300
4032x3024->300x300 300x300 300x300 300x225 300x300 300x225 300x300 300x300 300x225 300x225 300x300 400x300 300x300 300x300 300x300
3024x4032->300x300 300x300 300x300 225x300 300x300 300x400 300x300 300x300 225x300 225x300 300x300 300x400 300x300 300x300 300x300
300x300->300x300 300x300 300x300 300x300 300x300 300x300 300x300 300x300 300x300 300x300 300x300 300x300 300x300 300x300 300x300
200x100->300x300 200x100 200x100 200x100 300x300 200x100 300x300 200x100 300x150 200x100 300x300 600x300 300x300 200x100 200x100
640x200->300x300 300x200 300x200 300x94 300x300 300x94 300x300 300x200 300x94 300x94 300x300 960x300 300x300 300x200 640x200
301x301->300x300 300x300 300x300 300x300 300x300 300x300 300x300 300x300 300x300 300x300 300x300 300x300 300x300 300x300 300x300
1000x333->300x200 300x200 300x200 300x100 300x200 300x100 300x200 300x200 300x100 300x100 300x200 601x200 300x200 300x200 300x200
333x1000->200x300 200x300 200x300 100x300 200x300 200x601 200x300 200x300 100x300 100x300 200x300 200x601 200x300 200x300 200x300
5120x2880->1024x768 1024x768 1024x768 1024x576 1024x768 1024x576 1024x768 1024x768 1024x576 1024x576 1024x768 1365x768 1024x768 1024x768 1024x768
1411x1411->300x100 300x100 300x100 100x100 300x100 300x300 300x100 300x100 100x100 100x100 300x100 300x300 300x100 300x100 300x100";

/// A boxed processor for [`Pipeline::then`].
#[derive(Debug)]
struct Form(Box<dyn Processor>);

impl Processor for Form {
    fn process(&self, raster: &mut rowbound_image::Raster) -> rowbound_image::Result<()> {
        self.0.process(raster)
    }

    fn first_size(&self, width: u32, height: u32) -> Option<(u32, u32)> {
        self.0.first_size(width, height)
    }
}

fn forms(w: u32, h: u32) -> [(&'static str, Box<dyn Processor>); 14] {
    [
        ("Thumbnail", Box::new(Thumbnail::new(w, h))),
        ("Thumbnail, anchor", Box::new(Thumbnail::new(w, h).anchor(Anchor::CENTER))),
        ("Thumbnail, crop=False", Box::new(Thumbnail::new(w, h).crop(false))),
        ("Thumbnail, upscale", Box::new(Thumbnail::new(w, h).upscale(true))),
        ("Thumbnail, width", Box::new(Thumbnail::width(w))),
        ("ResizeToFill", Box::new(ResizeToFill::new(w, h))),
        ("ResizeToFill, upscale=False", Box::new(ResizeToFill::new(w, h).upscale(false))),
        ("ResizeToFit", Box::new(ResizeToFit::new(w, h))),
        ("ResizeToFit, upscale=False", Box::new(ResizeToFit::new(w, h).upscale(false))),
        ("ResizeToFit, mat", Box::new(ResizeToFit::new(w, h).mat([255, 0, 0, 255]))),
        ("ResizeToCover", Box::new(ResizeToCover::new(w, h))),
        ("SmartResize", Box::new(SmartResize::new(w, h))),
        ("Crop", Box::new(Crop::new(w, h))),
        ("Resize, upscale=False", Box::new(Resize::new(w, h).upscale(false))),
    ]
}

fn size(text: &str) -> (u32, u32) {
    let (w, h) = text.split_once('x').unwrap();
    (w.parse().unwrap(), h.parse().unwrap())
}

/// Runs every form on every size, in a file that `make` made, and returns how many there were.
fn check(make: impl Fn(u32, u32) -> Vec<u8>) -> usize {
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in PILKIT.lines() {
        let (pair, sizes) = line.split_once(' ').unwrap();
        let (from, to) = pair.split_once("->").unwrap();
        let (from, to) = (size(from), size(to));
        let file = make(from.0, from.1);
        for ((name, form), wanted) in forms(to.0, to.1).into_iter().zip(sizes.split(' ')) {
            let picture = Pipeline::new().then(Form(form)).format(Format::Png).run(&file).unwrap();
            if (picture.width, picture.height) != size(wanted) {
                wrong.push(format!("{pair} {name}: {}x{}, not {wanted}", picture.width, picture.height));
            }
            count += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    count
}

#[test]
fn every_form_makes_pilkits_sizes_from_png() {
    assert_eq!(check(gray_png), 168);
}

#[test]
fn every_form_makes_pilkits_sizes_from_a_scaled_jpeg() {
    assert_eq!(check(gray_jpeg), 168);
}

#[test]
fn resize_enlarges_to_exactly_the_size() {
    let picture = Pipeline::new().then(Resize::new(300, 300)).run(&gray_png(200, 100)).unwrap();
    assert_eq!((picture.width, picture.height), (300, 300));
}

#[test]
fn a_line_keeps_one_pixel_where_pilkit_fails() {
    let picture = Pipeline::new().then(ResizeToFit::new(300, 300)).run(&gray_png(10_000, 1)).unwrap();
    assert_eq!((picture.width, picture.height), (300, 1));
}
