"""Finds the unused files of MEDIA as django-unused-media does, and prints their count and the peak of our memory in KiB.

    unused.py SQLITE_URL MEDIA
"""

import resource
import sys
from pathlib import Path

import django
from django.conf import settings

sys.path.insert(0, str(Path(__file__).parent.parent / "django"))

url, media = sys.argv[1:]
settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": url.removeprefix("sqlite:")}},
    MEDIA_ROOT=media,
    INSTALLED_APPS=["uploads", "django_unused_media"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
)
django.setup()

from django_unused_media.cleanup import get_unused_media  # noqa: E402

# A minimum age as its command has one, but shorter: the files were just made.
unused = get_unused_media(exclude=[".rowbound/*"], minimum_file_age=1)
print(len(unused), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
