"""The models. Nothing here knows of Rowbound: no signal, no mixin, no overridden delete()."""

from django.db import models
from imagekit.models import ImageSpecField, ProcessedImageField
from imagekit.processors import Thumbnail


class Article(models.Model):
    title = models.CharField(max_length=200)
    image = ProcessedImageField(
        upload_to="%Y/%m/%d/", processors=[Thumbnail(300, 300)], format="JPEG", options={"quality": 90}, blank=True, null=True
    )
    # No column: imagekit keeps what it makes beneath CACHE/images/, and nobody but its name says of what it was made.
    thumbnail = ImageSpecField(source="image", processors=[Thumbnail(80, 80)], format="JPEG")


class ArticleProxy(Article):
    class Meta:
        proxy = True


class ArticleRow(models.Model):
    """The table of Article by another model, which Django does not manage."""

    title = models.CharField(max_length=200)
    image = models.FileField(upload_to="rows/", null=True)

    class Meta:
        managed = False
        db_table = "blog_article"


class Post(models.Model):
    title = models.CharField(max_length=200)


class PostImage(models.Model):
    post = models.ForeignKey(Post, models.CASCADE)
    image = models.ImageField(upload_to="posts/")


class Profile(models.Model):
    avatar = models.ImageField(upload_to="avatars/", default="defaults/avatar.png")


class Sheet(models.Model):
    """Two columns that may name the same file."""

    front = models.FileField(upload_to="sheets/", blank=True)
    back = models.FileField(upload_to="sheets/", blank=True, null=True)


class Setting(models.Model):
    """A unique key: upserts and REPLACE."""

    slug = models.CharField(max_length=100, unique=True)
    file = models.FileField(upload_to="settings/")


class Medium(models.Model):
    """The parent of multi-table inheritance."""

    poster = models.FileField(upload_to="media/")


class Video(Medium):
    subtitles = models.FileField(upload_to="media/", blank=True)


class Shelf(models.Model):
    class Meta:
        managed = False


class Album(models.Model):
    """Its table says ON DELETE CASCADE, so that the database deletes and Django hears nothing."""

    shelf = models.ForeignKey(Shelf, models.DO_NOTHING)
    cover = models.FileField(upload_to="albums/")

    class Meta:
        managed = False


class Photo(models.Model):
    album = models.ForeignKey(Album, models.DO_NOTHING)
    file = models.FileField(upload_to="albums/")

    class Meta:
        managed = False


class Document(models.Model):
    """The table that migrations change while the collector runs; as migration 0009 leaves it."""

    title = models.CharField(max_length=200, db_index=True)
    remark = models.CharField(max_length=100, default="")
    state = models.CharField(max_length=20, default="new")
    file = models.FileField(upload_to="documents/", max_length=255)

    class Meta:
        indexes = [models.Index(fields=["state", "title"], name="blog_document_state")]
