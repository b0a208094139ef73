"""The bench's task with Pillow and pilkit: pillow.py FROM TO"""

import os
import sys

from PIL import Image
from pilkit.processors import Thumbnail, Transpose
from pilkit.utils import save_image

Image.MAX_IMAGE_PIXELS = None
source, target = sys.argv[1:]
thumbnail, upright = Thumbnail(300, 300), Transpose()
for name in sorted(os.listdir(source)):
    with Image.open(os.path.join(source, name)) as image:
        # Turned after shrinking: the cheaper order, and for a square the same size.
        orientation = image.getexif().get(0x0112, 1)
        image = thumbnail.process(image)
        if orientation != 1:
            steps = Transpose._EXIF_ORIENTATION_STEPS[orientation]
            image = Transpose(*steps).process(image)
        with open(os.path.join(target, name), "wb") as file:
            save_image(image, file, "JPEG", {"quality": 90})
