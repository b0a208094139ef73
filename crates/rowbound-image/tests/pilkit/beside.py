"""pilkit on photographs: what it makes of them, and what the best resize of them would be.

    beside.py FOLDER

Writes to FOLDER, per picture: NAME.in (the file), and per processor NAME.PROCESSOR.png (pilkit's pixels), NAME.PROCESSOR.jpg (as it saves them),
and for the 300x300 thumbnail the picture in floating point, resized with Lanczos and not cut (NAME.cover.f32). Prints one JSON object a line.
"""

import io
import json
import os
import sys

import numpy as np
import skimage
import sklearn
from PIL import Image
from pilkit.processors import (
    AddBorder, Adjust, Anchor, ColorOverlay, Crop, MakeOpaque, Reflection, Resize, ResizeCanvas, ResizeToFill, ResizeToFit, SmartCrop, SmartResize,
    Thumbnail, Transpose, TrimBorderColor,
)
from pilkit.utils import prepare_image

folder = sys.argv[1]
data = os.path.join(os.path.dirname(skimage.__file__), "data")
photos = os.path.join(os.path.dirname(sklearn.__file__), "datasets", "images")
pictures = [os.path.join(photos, name) for name in ("china.jpg", "flower.jpg")]
pictures += [os.path.join(data, name) for name in ("astronaut.png", "chelsea.png", "coffee.png", "ihc.png", "motorcycle_left.png", "retina.jpg", "rocket.jpg", "hubble_deep_field.jpg", "camera.png")]

processors = {
    "thumbnail": Thumbnail(300, 300),
    "thumbnail-wide": Thumbnail(300, 100),
    "fill-tl": ResizeToFill(200, 100, anchor=Anchor.TOP_LEFT),
    "fit": ResizeToFit(200, 200),
    "smart-crop": SmartCrop(200, 150),
}
# On a picture that pilkit resized before, without loss: only the processor is compared.
exact = {
    "crop": Crop(100, 50, anchor=Anchor.BOTTOM_RIGHT),
    "canvas": ResizeCanvas(250, 160, color=(10, 20, 30, 255), anchor=Anchor.TOP_RIGHT),
    "border": AddBorder((1, 2, 3, 4), color=(200, 100, 50, 255)),
    "adjust": Adjust(color=0.4, brightness=1.2, contrast=0.7, sharpness=1.8),
    "overlay": ColorOverlay((255, 0, 0), overlay_opacity=0.3),
    "opaque": MakeOpaque((0, 0, 255)),
    "reflection": Reflection(size=0.4),
    "rotate": Transpose(Transpose.ROTATE_90, Transpose.FLIP_HORIZONTAL),
    "resize": Resize(77, 91),
    "smart-resize": SmartResize(90, 90),
}


def say(**values):
    print(json.dumps(values), flush=True)


for path in pictures:
    name = os.path.basename(path)
    with open(path, "rb") as file:
        original = file.read()
    with open(os.path.join(folder, name + ".in"), "wb") as file:
        file.write(original)
    for label, processor in processors.items():
        with Image.open(io.BytesIO(original)) as image:
            image.load()
            done = processor.process(image)
        done.convert("RGB").save(os.path.join(folder, f"{name}.{label}.png"))
        saved, options = prepare_image(done, "JPEG")
        saved.save(os.path.join(folder, f"{name}.{label}.jpg"), "JPEG", quality=90, **options)
        say(picture=name, processor=label, width=done.width, height=done.height)
    with Image.open(io.BytesIO(original)) as image:
        image = image.convert("RGB")
        ratio = max(300 / image.width, 300 / image.height)
        if ratio < 1:
            size = (round(image.width * ratio), round(image.height * ratio))
            bands = [Image.fromarray(np.asarray(band, dtype=np.float32)).resize(size, Image.Resampling.LANCZOS) for band in image.split()]
            np.stack([np.asarray(band) for band in bands], axis=-1).astype("<f4").tofile(os.path.join(folder, name + ".cover.f32"))
            say(picture=name, processor="cover", width=size[0], height=size[1])

with Image.open(pictures[0]) as image:
    small = image.convert("RGB").resize((160, 120), Image.Resampling.LANCZOS)
alpha = Image.linear_gradient("L").resize(small.size)
soft = small.copy()
soft.putalpha(alpha)
for kind, image in (("rgb", small), ("rgba", soft)):
    image.save(os.path.join(folder, f"{kind}.in"), "PNG")
    for label, processor in exact.items():
        done = processor.process(image)
        done.convert("RGBA").save(os.path.join(folder, f"{kind}.{label}.png"), "PNG")
        say(picture=kind, processor=label, width=done.width, height=done.height)

# A border of one colour, with noise that is to be tolerated.
framed = Image.new("RGB", (200, 160), (250, 240, 230))
framed.paste(small.crop((0, 0, 120, 90)), (30, 40))
framed.save(os.path.join(folder, "framed.in"), "PNG")
done = TrimBorderColor(tolerance=0.05).process(framed)
say(picture="framed", processor="trim", width=done.width, height=done.height)
