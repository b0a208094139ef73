"""Deletes every row of `doc` by `QuerySet.delete()` and prints the seconds it took: wall, CPU.

    delete.py DATABASE_URL MEDIA [cleanup]     `cleanup` installs django-cleanup, whose receivers delete the files
"""

import sys
import time
from urllib.parse import unquote, urlsplit

import django
from django.conf import settings


def database(url):
    if url.startswith("sqlite:"):
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": url.removeprefix("sqlite:")}
    parts = urlsplit(url)
    common = {
        "NAME": parts.path.lstrip("/"),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname,
        "PORT": str(parts.port),
    }
    if parts.scheme == "postgres":
        return {"ENGINE": "django.db.backends.postgresql", **common}
    import pymysql

    pymysql.install_as_MySQLdb()
    return {"ENGINE": "django.db.backends.mysql", **common}


url, media, *more = sys.argv[1:]
settings.configure(
    DATABASES={"default": database(url)},
    MEDIA_ROOT=media,
    INSTALLED_APPS=["uploads", *(["django_cleanup.apps.CleanupConfig"] if more else [])],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
)
django.setup()

from uploads.models import Doc  # noqa: E402

Doc.objects.exists()  # connects
wall, cpu = time.perf_counter(), time.process_time()
Doc.objects.all().delete()
print(time.perf_counter() - wall, time.process_time() - cpu)
