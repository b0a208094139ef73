from django.db import migrations, models
import imagekit.models.fields

# The database itself cascades here.
SHELVES = [
    "create table blog_shelf (id bigint not null primary key)",
    "create table blog_album (id bigint not null primary key, shelf_id bigint not null, cover varchar(100) not null,"
    " foreign key (shelf_id) references blog_shelf (id) on delete cascade)",
    "create table blog_photo (id bigint not null primary key, album_id bigint not null, file varchar(100) not null,"
    " foreign key (album_id) references blog_album (id) on delete cascade)",
]


def key():
    return ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"))


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            "Article",
            [
                key(),
                ("title", models.CharField(max_length=200)),
                ("image", imagekit.models.fields.ProcessedImageField(blank=True, null=True, upload_to="%Y/%m/%d/")),
            ],
        ),
        migrations.CreateModel("ArticleProxy", [], options={"proxy": True}, bases=("blog.article",)),
        migrations.CreateModel(
            "ArticleRow",
            [
                key(),
                ("title", models.CharField(max_length=200)),
                ("image", models.FileField(null=True, upload_to="rows/")),
            ],
            options={"managed": False, "db_table": "blog_article"},
        ),
        migrations.CreateModel("Post", [key(), ("title", models.CharField(max_length=200))]),
        migrations.CreateModel(
            "PostImage",
            [
                key(),
                ("image", models.ImageField(upload_to="posts/")),
                ("post", models.ForeignKey(on_delete=models.deletion.CASCADE, to="blog.post")),
            ],
        ),
        migrations.CreateModel("Profile", [key(), ("avatar", models.ImageField(default="defaults/avatar.png", upload_to="avatars/"))]),
        migrations.CreateModel(
            "Sheet",
            [
                key(),
                ("front", models.FileField(blank=True, upload_to="sheets/")),
                ("back", models.FileField(blank=True, null=True, upload_to="sheets/")),
            ],
        ),
        migrations.CreateModel(
            "Setting", [key(), ("slug", models.CharField(max_length=100, unique=True)), ("file", models.FileField(upload_to="settings/"))]
        ),
        migrations.CreateModel("Medium", [key(), ("poster", models.FileField(upload_to="media/"))]),
        migrations.CreateModel(
            "Video",
            [
                (
                    "medium_ptr",
                    models.OneToOneField(
                        auto_created=True, on_delete=models.deletion.CASCADE, parent_link=True, primary_key=True, serialize=False, to="blog.medium"
                    ),
                ),
                ("subtitles", models.FileField(blank=True, upload_to="media/")),
            ],
            bases=("blog.medium",),
        ),
        migrations.CreateModel("Shelf", [key()], options={"managed": False}),
        migrations.CreateModel(
            "Album",
            [
                key(),
                ("cover", models.FileField(upload_to="albums/")),
                ("shelf", models.ForeignKey(on_delete=models.deletion.DO_NOTHING, to="blog.shelf")),
            ],
            options={"managed": False},
        ),
        migrations.CreateModel(
            "Photo",
            [
                key(),
                ("file", models.FileField(upload_to="albums/")),
                ("album", models.ForeignKey(on_delete=models.deletion.DO_NOTHING, to="blog.album")),
            ],
            options={"managed": False},
        ),
        migrations.RunSQL(SHELVES, migrations.RunSQL.noop),
        migrations.CreateModel(
            "Document",
            [
                key(),
                ("title", models.CharField(max_length=100)),
                ("note", models.CharField(default="", max_length=100)),
                ("draft", models.CharField(default="", max_length=50)),
                ("file", models.FileField(upload_to="documents/")),
            ],
        ),
    ]
