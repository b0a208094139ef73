"""The settings of a small real project, out of the environment: the test makes a database and a media folder per run."""

import os
from urllib.parse import unquote, urlsplit

DATABASE_URL = os.environ["DJANGO_DATABASE"]
MEDIA_ROOT = os.environ.get("DJANGO_MEDIA", "")
# Names a bucket: then the files are there, by django-storages with its defaults, which overwrite a file of the same name.
MEDIA_BUCKET = os.environ.get("DJANGO_BUCKET")


def database(url):
    """Django's settings for the URL that stands in rowbound.toml."""
    if url.startswith("sqlite:"):
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": url.removeprefix("sqlite:"),
            # What Django's manual advises against "database is locked" as soon as two processes write: with the default (DEFERRED) a
            # transaction that reads first and writes then fails at once when another process, Rowbound or not, wrote in between.
            "OPTIONS": {"timeout": 30, "transaction_mode": "IMMEDIATE"},
        }
    parts = urlsplit(url)
    settings = {
        "NAME": parts.path.lstrip("/"),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname,
        "PORT": str(parts.port),
    }
    if parts.scheme in ("postgres", "postgresql"):
        return {"ENGINE": "django.db.backends.postgresql", **settings}
    import pymysql

    pymysql.install_as_MySQLdb()
    return {"ENGINE": "django.db.backends.mysql", "OPTIONS": {"charset": "utf8mb4"}, **settings}


DATABASES = {"default": database(DATABASE_URL)}
INSTALLED_APPS = ["imagekit", "blog"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SECRET_KEY = "only for the test"
USE_TZ = True
MEDIA_URL = "/media/"
if MEDIA_BUCKET:
    STORAGES = {
        "default": {
            "BACKEND": "storages.backends.s3.S3Storage",
            # Keys and region are where boto3 looks for them.
            "OPTIONS": {
                "bucket_name": MEDIA_BUCKET,
                "location": os.environ.get("DJANGO_PREFIX", ""),
                "endpoint_url": os.environ["DJANGO_ENDPOINT"],
                "addressing_style": "path",
                "querystring_auth": False,
            },
        },
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }
LOGGING_CONFIG = None
