"""The 200 pictures of the bench, made of photographs that come with scikit-image and scikit-learn.

    mix.py FOLDER

What a photo site is sent: 50 of 12 MP as phones write them (turned by EXIF), 6 of 12 MP progressive, 6 of 24 MP, 4 of 8 MP progressive, 45 of 4 MP,
34 of 2 MP, 25 small ones, 15 PNG, 15 WebP. The large ones are enlarged from small originals, with noise put on, since no package has a larger
photograph: their files have the size of real ones (about 0.3 bytes a pixel at quality 88), which is what costs time.
"""

import os
import sys

import numpy as np
import skimage
import sklearn
from PIL import Image, ImageOps

folder = sys.argv[1]
os.makedirs(folder, exist_ok=True)
data = os.path.join(os.path.dirname(skimage.__file__), "data")
photos = os.path.join(os.path.dirname(sklearn.__file__), "datasets", "images")
sources = [os.path.join(photos, "china.jpg"), os.path.join(photos, "flower.jpg")] + [os.path.join(data, name) for name in ("coffee.png", "chelsea.png", "rocket.jpg", "motorcycle_left.png")]
random = np.random.default_rng(1)
tile = random.normal(0, 1, (512, 512, 1)).astype(np.float32)


def photo(index, width, height, noise=5.0):
    with Image.open(sources[index % len(sources)]) as image:
        image = ImageOps.fit(image.convert("RGB"), (width, height), Image.Resampling.BICUBIC)
    grain = np.tile(tile, (height // 512 + 1, width // 512 + 1, 1))[:height, :width]
    return Image.fromarray((np.asarray(image) + noise * grain).clip(0, 255).astype(np.uint8))


def save(name, count, image, **options):
    """Writes the same picture under several names: decoders keep nothing between files."""
    first = os.path.join(folder, f"{name}-000")
    image.save(first, **options)
    with open(first, "rb") as file:
        content = file.read()
    for index in range(1, count):
        with open(os.path.join(folder, f"{name}-{index:03}"), "wb") as file:
            file.write(content)
    print(f"{name}: {count} x {image.width}x{image.height}, {len(content) / 1e6:.2f} MB")


exif = Image.Exif()
exif[0x0112] = 6
for kind in range(2):
    save(f"j12o6-{kind}", 25, photo(kind, 4032, 3024), format="JPEG", quality=88, exif=exif)
save("j12p", 6, photo(2, 4032, 3024), format="JPEG", quality=88, progressive=True)
save("j24", 6, photo(0, 6000, 4000), format="JPEG", quality=90)
save("j08p", 4, photo(1, 3840, 2160, 9.0), format="JPEG", quality=95, progressive=True)
for kind in range(3):
    save(f"j04-{kind}", 15, photo(kind, 2560, 1600, 3.0), format="JPEG", quality=88)
for kind in range(2):
    save(f"j02-{kind}", 17, photo(kind + 1, 1920, 1280, 3.0), format="JPEG", quality=88)
for kind in range(5):
    save(f"j00-{kind}", 5, photo(kind, 640, 427, 0.0), format="JPEG", quality=90)
save("p02", 8, photo(0, 1920, 1280, 1.0), format="PNG")
soft = photo(1, 1600, 1200, 1.0)
soft.putalpha(Image.linear_gradient("L").resize(soft.size))
save("p02a", 7, soft, format="PNG")
save("w04", 10, photo(2, 2560, 1600, 2.0), format="WEBP", quality=85)
save("w07", 5, photo(3, 3200, 2133, 2.0), format="WEBP", quality=85)
