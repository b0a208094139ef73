"""A site on Wagtail, as its own project template makes it: its migrations, and some images, documents and pages made with its models.

    WAGTAIL_DATABASE=app.sqlite3 WAGTAIL_MEDIA=media python site.py

With the name of a Python file it makes nothing, and runs that file on the site that is there.
"""

import io
import os
import sys

# This file is called as a module of the standard library is; nothing here may stand in for one.
sys.path.pop(0)

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="only for a test",
    USE_TZ=True,
    ROOT_URLCONF=__name__,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["WAGTAIL_DATABASE"]}},
    MEDIA_ROOT=os.environ["WAGTAIL_MEDIA"],
    MEDIA_URL="/media/",
    STATIC_URL="/static/",
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    WAGTAIL_SITE_NAME="test",
    WAGTAILADMIN_BASE_URL="http://localhost",
    WAGTAILSEARCH_BACKENDS={"default": {"BACKEND": "wagtail.search.backends.database"}},
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
    INSTALLED_APPS=[
        "wagtail.contrib.forms",
        "wagtail.contrib.redirects",
        "wagtail.embeds",
        "wagtail.sites",
        "wagtail.users",
        "wagtail.snippets",
        "wagtail.documents",
        "wagtail.images",
        "wagtail.search",
        "wagtail.admin",
        "wagtail",
        "modelcluster",
        "taggit",
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
        "django.contrib.staticfiles",
    ],
)
django.setup()

urlpatterns = []

if len(sys.argv) > 1:
    with open(sys.argv[1]) as script:
        exec(script.read())
    sys.exit()

from django.contrib.auth import get_user_model
from django.core.files.base import ContentFile
from django.core.management import call_command
from PIL import Image as Picture

call_command("migrate", verbosity=0)

from wagtail.documents.models import Document
from wagtail.images.models import Image
from wagtail.models import Page
from wagtail.users.models import UserProfile


def picture(colour, name):
    out = io.BytesIO()
    Picture.new("RGB", (64, 48), (colour * 5 % 256, colour * 11 % 256, 80)).save(out, "JPEG")
    return ContentFile(out.getvalue(), name)


user = get_user_model().objects.create_superuser("editor", "editor@example.com", "x")
UserProfile.objects.create(user=user, avatar=picture(1, "editor.jpg"))
# The administration takes the uploaded file's name as the title.
for n in range(12):
    image = Image(title=f"picture {n}.jpg", file=picture(n, f"picture {n}.jpg"), uploaded_by_user=user)
    image.save()
    image.tags.add("holiday", f"number {n}")
    image.get_rendition("fill-20x20")
    image.get_rendition("max-30x30|format-webp")
for n in range(8):
    Document.objects.create(title=f"paper-{n}.pdf", file=ContentFile(b"%PDF-1.4 " + bytes([n]), f"paper-{n}.pdf"), uploaded_by_user=user)
root = Page.get_first_root_node()
for n in range(15):
    page = root.add_child(instance=Page(title=f"About picture {n}.jpg", slug=f"page-{n}", search_description="See /pages/ and paper-1.pdf."))
    page.save_revision(user=user).publish()
print("ready")
