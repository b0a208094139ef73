"""What a Django application does with its files, scenario by scenario, on the database of DJANGO_DATABASE.

A scenario uses Django as its manual says, and tells what has to be true afterwards: `gone` names that no row holds any more, `stays`
those that must be there. After it the test waits until the media folder holds exactly the names of all file columns and nothing waits in the
queue any more. `orphan` is a file that no row ever committed: capture cannot know it, a sweep would find it.
"""

import io
import itertools
import json
import os
import pickle
import subprocess
import sys
import threading
import time
import unittest

import protocol
from protocol import ask

if __name__ == "__main__":
    protocol.setup()

from django.apps import apps  # noqa: E402
from django.core.files.base import ContentFile  # noqa: E402
from django.core.files.storage import default_storage  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection, models, transaction  # noqa: E402
from django.db.models import Case, F, Value, When  # noqa: E402
from django.test import TestCase  # noqa: E402
from PIL import Image  # noqa: E402

from blog.models import (  # noqa: E402
    Album,
    Article,
    ArticleProxy,
    ArticleRow,
    Medium,
    Photo,
    Post,
    PostImage,
    Profile,
    Setting,
    Sheet,
    Shelf,
    Video,
)

VENDOR = connection.vendor  # sqlite, postgresql, mysql (MariaDB calls itself so)
DEFAULT = "defaults/avatar.png"
NEVER_NAMED = "readme.txt"  # a file that no row has ever named is nobody's business


def _picture():
    out = io.BytesIO()
    Image.new("RGB", (640, 400), (40, 120, 200)).save(out, "PNG")
    return out.getvalue()


PICTURE = _picture()
_numbers = itertools.count()
_scenarios = []
_gone, _stays, _orphans = set(), {DEFAULT, NEVER_NAMED}, set()
_document_column = "file"


def scenario(*only):
    """Registers a scenario; `only` names the databases that it is for, all by default."""

    def register(function):
        if not only or VENDOR in only:
            _scenarios.append(function)
        return function

    return register


def gone(*names):
    """No row holds these any more: their files must go."""
    _gone.update(names)


def stays(*names):
    """These must be there."""
    _stays.update(names)


def orphan(name):
    """No committed row ever named this file: it stays until a sweep."""
    _orphans.add(name)


def file_columns():
    """Every column that names files, out of Django's models: what rowbound.toml has to bind."""
    columns = set()
    for model in apps.get_models():
        for field in model._meta.local_fields:
            if isinstance(field, models.FileField):
                columns.add((model._meta.db_table, _document_column if model._meta.db_table == "blog_document" else field.column))
    return sorted(columns)


def bindings():
    return [
        {
            "column": f"{table}.{column}",
            "keep": ["defaults/*"] if table == "blog_profile" else [],
            "derivatives": ["imagekit"] if table == "blog_article" else [],
        }
        for table, column in file_columns()
    ]


def named():
    """The names in all file columns, read from the tables themselves."""
    names = set()
    quote = connection.ops.quote_name
    with connection.cursor() as cursor:
        for table, column in file_columns():
            cursor.execute(f"select {quote(column)} from {quote(table)}")
            names.update(name for (name,) in cursor.fetchall() if name)
    return names


def check(step, may=(), renamed=False):
    """Lets the test compare: files, rows, and what the scenario said. `may` are names whose release nobody had to see; `renamed` says that a
    bound column was renamed, so that what waited then may be left too, if the ledger names it."""
    rows = named()
    both = (_gone & rows, _gone & _stays)
    assert both == (set(), set()), f"{step}: the scenario contradicts itself: {both}"
    unnamed = _stays - rows - {DEFAULT, NEVER_NAMED}
    assert not unnamed, f"{step}: shall stay, but no row names it: {unnamed}"
    ask(check=step, referenced=sorted(rows), gone=sorted(_gone), stays=sorted(_stays), orphans=sorted(_orphans), may=sorted(may), renamed=renamed)
    for name in _orphans | set(may) | (_gone if renamed else set()):
        if name not in rows:
            default_storage.delete(name)
    _gone.clear()
    _orphans.clear()
    _stays.clear()
    _stays.update({DEFAULT, NEVER_NAMED})


def picture(name=None):
    return ContentFile(PICTURE, name or f"p{next(_numbers)}.jpg")


def text(name=None):
    return ContentFile(b"text", name or f"t{next(_numbers)}.txt")


def put(name):
    """A file under exactly this name, past Django's own cleaning of names."""
    path = os.path.join(default_storage.location, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(PICTURE)


def article(**fields):
    return Article.objects.create(**({"title": "title", "image": picture()} | fields))


def thumbnail(a):
    """Has imagekit make the article's thumbnail, as a page that shows it does, and returns its name."""
    assert a.thumbnail.url
    assert default_storage.exists(a.thumbnail.name), a.thumbnail.name
    return a.thumbnail.name


def sql(statement, *params):
    with connection.cursor() as cursor:
        cursor.execute(statement, params)


class Boom(Exception):
    pass


# --- one row ---------------------------------------------------------------------------------------------------------------------


# django-cleanup: file to file, to `''`, to `NULL`, delete.
@scenario()
def delete():
    a, b = article(), article()
    name, other = a.image.name, b.image.name
    with Image.open(default_storage.path(name)) as image:
        assert (image.format, image.size) == ("JPEG", (300, 300)), (image.format, image.size)
    a.delete()
    gone(name)
    stays(other)


@scenario()
def queryset_delete():
    names = [article(title="bulk").image.name for _ in range(5)]
    keep = article().image.name
    Article.objects.filter(title="bulk").delete()
    gone(*names)
    stays(keep)


# django-cleanup: file to file, to `''`, to `NULL`, delete.
@scenario()
def save_with_a_new_file():
    a = article()
    old = a.image.name
    a.image = picture()
    a.save()
    gone(old)
    stays(a.image.name)


# django-cleanup: file to file, to `''`, to `NULL`, delete.
@scenario()
def save_with_none():
    a, b, c = article(), article(), article()
    names = [x.image.name for x in (a, b, c)]
    a.image = ""
    a.save()
    b.image = None
    b.save()
    c.image.delete(save=False)  # Django's own way: the file goes at once, the row follows
    c.save()
    # Django stores '' for both; NULL comes by update() and raw SQL.
    assert set(Article.objects.filter(pk__in=[a.pk, b.pk]).values_list("image", flat=True)) == {""}
    gone(*names)


@scenario()
def save_without_a_change():
    a = article()
    a.title = "another"
    a.save()
    a.save(force_update=True)
    stays(a.image.name)


# django-cleanup: refresh from the database, then replace.
@scenario()
def refresh_from_db_then_replace():
    a = article()
    first = a.image.name
    Article.objects.get(pk=a.pk).image.save("second.jpg", picture())
    a.refresh_from_db()
    second = a.image.name
    assert second != first
    a.image = picture()
    a.save()
    gone(first, second)
    stays(a.image.name)


# django-cleanup: several saves of one instance; a stale instance replaces, deletes, brings an old name back.
@scenario()
def a_stale_instance_replaces():
    a = article()
    stale = Article.objects.get(pk=a.pk)
    first = a.image.name
    a.image = picture()
    a.save()
    second = a.image.name
    stale.image = picture()
    stale.save()
    gone(first, second)
    stays(stale.image.name)


# django-cleanup: several saves of one instance; a stale instance replaces, deletes, brings an old name back.
@scenario()
def a_stale_instance_deletes():
    a = article()
    stale = Article.objects.get(pk=a.pk)
    first = a.image.name
    a.image = picture()
    a.save()
    stale.delete()
    gone(first, a.image.name)


# django-cleanup: several saves of one instance; a stale instance replaces, deletes, brings an old name back.
@scenario()
def a_stale_instance_brings_an_old_name_back():
    """The application loses an update of its own; the trash still has the file."""
    a = article()
    stale = Article.objects.get(pk=a.pk)
    first = a.image.name
    a.image = picture()
    a.save()
    second = a.image.name
    gone(first)
    check("a_stale_instance_brings_an_old_name_back: before")
    stale.title = "stale"
    stale.save()  # every column, the old name too
    assert Article.objects.get(pk=a.pk).image.name == first
    ask(restore=first)
    gone(second)
    stays(first)


# django-cleanup: pickled and deferred instances; a lost in-memory cache.
@scenario()
def deferred_columns():
    a, b, c = article(), article(), article()
    names = [x.image.name for x in (a, b, c)]
    deferred = Article.objects.defer("image").get(pk=a.pk)
    deferred.title = "deferred"
    deferred.save()
    Article.objects.only("title").get(pk=b.pk).delete()
    deferred = Article.objects.defer("image").get(pk=c.pk)
    deferred.image = picture()
    deferred.save()
    stays(names[0], deferred.image.name)
    gone(names[1], names[2])


# django-cleanup: pickled and deferred instances; a lost in-memory cache.
@scenario()
def pickled_instances():
    a, b = article(), article()
    names = [a.image.name, b.image.name]
    a, b = pickle.loads(pickle.dumps(a)), pickle.loads(pickle.dumps(b))
    a.image = picture()
    a.save()
    b.delete()
    gone(*names)
    stays(a.image.name)


# django-cleanup: proxy models, unmanaged models of the same table.
@scenario()
def proxy_models():
    a, b = article(), article()
    names = [a.image.name, b.image.name]
    proxy = ArticleProxy.objects.get(pk=a.pk)
    proxy.image = picture()
    proxy.save()
    ArticleProxy.objects.get(pk=b.pk).delete()
    gone(*names)
    stays(proxy.image.name)


# django-cleanup: proxy models, unmanaged models of the same table.
@scenario()
def unmanaged_models_of_the_same_table():
    a, b = article(), article()
    names = [a.image.name, b.image.name]
    row = ArticleRow.objects.get(pk=a.pk)
    row.image = text()
    row.save()
    ArticleRow.objects.filter(pk=b.pk).delete()
    gone(*names)
    stays(row.image.name)


# django-cleanup: a default file survives delete and replacement.
@scenario()
def a_default_file_survives():
    a, b, c = Profile.objects.create(), Profile.objects.create(), Profile.objects.create(avatar=picture())
    assert a.avatar.name == DEFAULT
    a.delete()
    b.avatar = picture()
    b.save()
    old = c.avatar.name
    Profile.objects.filter(pk=c.pk).update(avatar=DEFAULT)
    Profile.objects.filter(pk=c.pk).delete()
    stays(b.avatar.name)
    gone(old)


# django-cleanup: `save(update_fields=..)` with an unsaved file in memory.
@scenario()
def save_of_other_fields_with_an_unsaved_file_in_memory():
    a = article()
    old = a.image.name
    a.title, a.image = "only the title", picture()
    a.save(update_fields=["title"])
    assert Article.objects.get(pk=a.pk).image.name == old
    stays(old)


# django-cleanup: name collision: the renamed file goes, its neighbours stay.
@scenario()
def name_collision():
    """Django renames the second upload of a name; only the renamed file goes."""
    a, b, c = (article(image=picture("collision.jpg")) for _ in range(3))
    names = [x.image.name for x in (a, b, c)]
    assert len(set(names)) == 3 and names[0].endswith("/collision.jpg"), names
    b.delete()
    gone(names[1])
    stays(names[0], names[2])
    check("name_collision: the renamed one")
    a.delete()
    again = article(image=picture("collision.jpg"))  # perhaps under the first one's name, if that has gone already
    if again.image.name != names[0]:
        gone(names[0])
    stays(names[2], again.image.name)


# Active Storage: traversal, sibling folder, NUL, empty, dot segments, odd encodings, glob characters, trailing slash.
@scenario()
def odd_names():
    names = ["odd/é ü.txt", "odd/e\u0301 \u00fc.txt", "odd/trailing.txt ", "odd/a'b\"c\\d%s.txt", "odd/ONE.txt", "odd/one.txt", "odd/a*[?].txt"]
    if VENDOR != "mysql":
        names.append("odd/\U0001f4f7.txt")
    for name in names:
        put(name)
        sql("insert into blog_sheet (front) values (%s)", name)
    # Each is its own file: whoever folds, trims or decodes deletes the neighbour. But a row may mean the file of another normal form: these two go together.
    sql("delete from blog_sheet where front = %s", names[2])
    exact = " collate utf8mb4_bin" if VENDOR == "mysql" else ""
    sql(f"delete from blog_sheet where front{exact} in (%s, %s, %s, %s)", names[0], names[1], names[3], names[4])
    left = set(Sheet.objects.filter(front__startswith="odd/").values_list("front", flat=True))
    gone(*(set(names) - left))
    stays(*left)
    assert names[5] in left, left


# --- queries that send no signal ---------------------------------------------------------------------------------------------------


@scenario()
def queryset_update():
    a, b, c, d = (article() for _ in range(4))
    names = [x.image.name for x in (a, b, c, d)]
    Article.objects.filter(pk=a.pk).update(image="")
    Article.objects.filter(pk=b.pk).update(image=None)
    new = default_storage.save("updated.jpg", picture())
    Article.objects.filter(pk=c.pk).update(image=new)
    Article.objects.filter(pk=d.pk).update(title="the file's column is not named")
    gone(*names[:3])
    stays(new, names[3])


@scenario()
def bulk_update():
    articles = [article() for _ in range(4)]
    names = [a.image.name for a in articles]
    for a in articles[:3]:
        a.image = default_storage.save("bulk.jpg", picture())
    Article.objects.bulk_update(articles, ["image"])
    gone(*names[:3])
    stays(names[3], *[a.image.name for a in articles[:3]])


@scenario()
def bulk_create_that_updates_conflicts():
    old = [Setting.objects.create(slug=f"s{n}", file=text()).file.name for n in range(3)]
    rows = [Setting(slug=f"s{n}", file=text()) for n in range(1, 5)]
    unique = {} if VENDOR == "mysql" else {"unique_fields": ["slug"]}
    Setting.objects.bulk_create(rows, update_conflicts=True, update_fields=["file"], **unique)
    new = list(Setting.objects.filter(slug__in=["s1", "s2", "s3", "s4"]).values_list("file", flat=True))
    assert len(new) == 4 and not set(new) & set(old), (new, old)
    gone(old[1], old[2])
    stays(old[0], *new)


@scenario()
def bulk_create_that_ignores_conflicts():
    old = Setting.objects.create(slug="ignored", file=text()).file.name
    row = Setting(slug="ignored", file=text())
    Setting.objects.bulk_create([row], ignore_conflicts=True)
    stays(old)
    orphan(row.file.name)  # uploaded, but no row ever named it


@scenario()
def get_or_create_and_update_or_create():
    a, made = Setting.objects.get_or_create(slug="goc", defaults={"file": text()})
    assert made
    again, made = Setting.objects.get_or_create(slug="goc", defaults={"file": text()})
    assert not made and again.file.name == a.file.name
    b, made = Setting.objects.update_or_create(slug="goc", defaults={"file": text()})
    assert not made
    c, made = Setting.objects.update_or_create(slug="uoc", defaults={"file": text()})
    assert made
    gone(a.file.name)
    stays(b.file.name, c.file.name)


@scenario()
def f_expressions_between_columns():
    a = Sheet.objects.create(front=text(), back=text())
    front, back = a.front.name, a.back.name
    Sheet.objects.filter(pk=a.pk).update(back=F("front"))
    gone(back)
    stays(front)
    check("f_expressions_between_columns: both name one")
    Sheet.objects.filter(pk=a.pk).update(front="")
    stays(front)
    check("f_expressions_between_columns: the other column still does")
    Sheet.objects.filter(pk=a.pk).update(back=None)
    gone(front)


# --- cascades ------------------------------------------------------------------------------------------------------------------------


def post(pictures):
    p = Post.objects.create(title="post")
    return p, [PostImage.objects.create(post=p, image=picture()).image.name for _ in range(pictures)]


# django-cleanup: cascade.
@scenario()
def orm_cascade():
    (a, mine), (_, other) = post(4), post(2)
    a.delete()
    gone(*mine)
    stays(*other)


# Active Storage: several attached and detached in one transaction, exact count.
@scenario()
def orm_cascade_of_a_query():
    names = [name for _ in range(3) for name in post(2)[1]]
    Post.objects.filter(postimage__image__in=names).delete()
    gone(*names)


def shelf(key):
    """A shelf with an album with two photos, in tables that cascade by themselves."""
    Shelf.objects.create(pk=key)
    album = Album.objects.create(pk=key, shelf_id=key, cover=text())
    return [album.cover.name] + [Photo.objects.create(pk=key * 10 + n, album=album, file=text()).file.name for n in range(2)]


# django-cleanup: cascade.
@scenario()
def database_cascade():
    one, two, three = shelf(1), shelf(2), shelf(3)
    sql("delete from blog_album where id = 1")
    gone(*one)
    stays(*two, *three)
    check("database_cascade: one level")
    sql("delete from blog_shelf where id = 2")  # two levels
    gone(*two)
    stays(*three)
    check("database_cascade: two levels")
    with transaction.atomic():
        sql("delete from blog_shelf where id = 3")
        transaction.set_rollback(True)
    stays(*three)


@scenario()
def multi_table_inheritance():
    a, b, c, d = (Video.objects.create(poster=text(), subtitles=text()) for _ in range(4))
    names = [(x.poster.name, x.subtitles.name) for x in (a, b, c, d)]
    a.delete()
    b.delete(keep_parents=True)
    Medium.objects.filter(pk=c.pk).delete()
    d.poster = text()
    d.save()
    gone(*names[0], names[1][1], *names[2], names[3][0])
    stays(names[1][0], d.poster.name, names[3][1])


# --- transactions --------------------------------------------------------------------------------------------------------------------


# Active Storage: a failed save keeps the old file.
@scenario()
def atomic_with_an_exception():
    a, b, c = article(), article(), article()
    names = [x.image.name for x in (a, b, c)]
    try:
        with transaction.atomic():
            a.delete()
            b.image = picture()
            b.save()
            Article.objects.filter(pk=c.pk).update(image="")
            raise Boom
    except Boom:
        pass
    stays(*names)
    orphan(b.image.name)


@scenario()
def savepoints():
    a, b, c, d = (article() for _ in range(4))
    names = [x.image.name for x in (a, b, c, d)]
    with transaction.atomic():
        a.delete()
        try:
            with transaction.atomic():
                b.delete()
                c.image = picture()
                c.save()
                raise Boom
        except Boom:
            pass
        with transaction.atomic():
            d.delete()
    gone(names[0], names[3])
    stays(names[1], names[2])
    orphan(c.image.name)


# django-cleanup: several saves of one instance; a stale instance replaces, deletes, brings an old name back.
# Shrine, CarrierWave, Laravel Media Library or unused-media: several saves in one transaction remove each intermediate file.
@scenario()
def several_saves_in_one_transaction():
    a = article()
    names = [a.image.name]
    with transaction.atomic():
        for _ in range(3):
            a.image = picture()
            a.save()
            names.append(a.image.name)
    gone(*names[:-1])
    stays(names[-1])


@scenario()
def delete_and_recreate_in_one_transaction_under_the_same_name():
    a, b = article(), article()
    kept, rewritten = a.image.name, b.image.name
    with transaction.atomic():
        a.delete()
        Article.objects.create(title="again", image=kept)
    with transaction.atomic():
        b.delete()
        # The application removes the file itself and uploads another under the very same name.
        default_storage.delete(rewritten)
        assert default_storage.save(rewritten, ContentFile(b"another content")) == rewritten
        Article.objects.create(title="again", image=rewritten)
    stays(kept, rewritten)
    check("delete_and_recreate_in_one_transaction_under_the_same_name: once")
    assert default_storage.open(rewritten).read() == b"another content"
    Article.objects.filter(image=rewritten).delete()
    gone(rewritten)
    stays(kept)


# Shrine, CarrierWave, Laravel Media Library or unused-media: nothing before the commit.
@scenario("postgresql", "mysql")
def a_reference_that_is_not_committed_yet_counts():
    a = article()
    name = a.image.name
    inserted, commit = threading.Event(), threading.Event()

    def other():
        with transaction.atomic():
            Article.objects.create(title="other", image=name)
            inserted.set()
            assert commit.wait(60)
        connection.close()

    thread = threading.Thread(target=other)
    thread.start()
    assert inserted.wait(60)
    a.delete()
    ask(waits=name)
    assert default_storage.exists(name)
    commit.set()
    thread.join()
    stays(name)
    check("a_reference_that_is_not_committed_yet_counts: committed")
    Article.objects.filter(image=name).delete()
    gone(name)


@scenario()
def the_rollback_of_djangos_test_case():
    """An application's own test suite, pointed at real files by mistake, deletes rows within a transaction that is rolled back."""
    names = [article().image.name for _ in range(3)] + post(2)[1]
    uploaded = []

    class Suite(TestCase):
        def test_deletes(self):
            Article.objects.all().delete()
            Post.objects.all().delete()
            self.assertFalse(Article.objects.exists())

        def test_replaces(self):
            for a in Article.objects.filter(image__in=names):
                a.image = picture()
                a.save()
                uploaded.append(a.image.name)

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(Suite).run(result)
    assert result.wasSuccessful() and result.testsRun == 2, result.errors + result.failures
    stays(*names)
    for name in uploaded:
        orphan(name)


# --- raw SQL -------------------------------------------------------------------------------------------------------------------------


@scenario()
def raw_update_and_delete():
    a, b, c = article(), article(), article()
    names = [x.image.name for x in (a, b, c)]
    sql("update blog_article set image = null where id = %s", a.pk)
    sql("update blog_article set image = '' where id = %s", b.pk)
    sql("delete from blog_article where id = %s", c.pk)
    gone(*names)


def setting(slug):
    return Setting.objects.create(slug=slug, file=text())


def upload():
    return default_storage.save("settings/raw.txt", text())


@scenario("sqlite", "postgresql")
def raw_on_conflict():
    old, other = setting("conflict").file.name, setting("nothing").file.name
    new, refused = upload(), upload()
    sql("insert into blog_setting (slug, file) values ('conflict', %s) on conflict (slug) do update set file = excluded.file", new)
    sql("insert into blog_setting (slug, file) values ('nothing', %s) on conflict do nothing", refused)
    gone(old)
    stays(new, other)
    orphan(refused)


@scenario("sqlite")
def raw_insert_or_replace():
    a, b, c = setting("replace"), setting("replace2"), setting("replace3")
    names = [a.file.name, b.file.name, c.file.name]
    new, new2 = upload(), upload()
    sql("insert or replace into blog_setting (slug, file) values ('replace', %s)", new)
    sql("replace into blog_setting (id, slug, file) values (%s, 'replace2', %s)", b.pk, new2)
    # The row of `replace` makes room for that of `replace3`.
    sql("update or replace blog_setting set slug = 'replace' where id = %s", c.pk)
    gone(names[0], names[1], new)
    stays(new2, names[2])


@scenario("mysql")
def raw_replace():
    a, b = setting("replace"), setting("replace2")
    names = [a.file.name, b.file.name]
    new, new2 = upload(), upload()
    sql("replace into blog_setting (slug, file) values ('replace', %s)", new)
    sql("insert into blog_setting (slug, file) values ('replace2', %s) on duplicate key update file = values(file)", new2)
    gone(*names)
    stays(new, new2)


@scenario("mysql")
def raw_multi_table_statements():
    (a, mine), (b, other) = post(2), post(1)
    new = default_storage.save("posts/joined.jpg", picture())
    sql("update blog_postimage i join blog_post p on p.id = i.post_id set i.image = %s where p.id = %s", new, b.pk)
    sql("delete i from blog_postimage i join blog_post p on p.id = i.post_id where p.id = %s", a.pk)
    gone(*mine, *other)
    stays(new)


@scenario("postgresql")
def raw_statements_of_postgresql():
    a, b, c = setting("with"), setting("merge"), setting("using")
    names = [x.file.name for x in (a, b, c)]
    merged = upload()
    sql("with d as (delete from blog_setting where id = %s returning id) select * from d", a.pk)
    sql(
        "merge into blog_setting s using (values ('merge', %s)) v (slug, file) on s.slug = v.slug when matched then update set file = v.file",
        merged,
    )
    sql("delete from blog_setting s using (values ('using')) v (slug) where v.slug = s.slug")
    gone(*names)
    stays(merged)


@scenario("postgresql")
def truncate():
    (_, mine), (_, more) = post(3), post(2)
    keep = article().image.name
    with transaction.atomic():
        sql("truncate blog_postimage")
        transaction.set_rollback(True)
    stays(*mine, *more)
    check("truncate: rolled back")
    sql("truncate blog_post cascade")
    everything = set(PostImage.objects.values_list("image", flat=True))
    assert not everything
    gone(*mine, *more)
    stays(keep)


# --- shared and moved files ------------------------------------------------------------------------------------------------------------


# Active Storage: attached: purge does nothing; a shared blob survives.
@scenario()
def two_rows_share_a_file():
    a = article()
    name = a.image.name
    b = Article.objects.create(title="shares", image=name)
    sheet = Sheet.objects.create(front=name)  # another table too
    a.delete()
    stays(name)
    check("two_rows_share_a_file: two left")
    b.delete()
    stays(name)
    check("two_rows_share_a_file: one left")
    sheet.delete()
    gone(name)


# Active Storage: a duplicate shares, and outlives the original.
@scenario()
def a_copied_instance_shares_its_file():
    """Django's manual copies an instance so."""
    a = article()
    name = a.image.name
    a.pk, a._state.adding = None, True
    a.save()
    assert Article.objects.filter(image=name).count() == 2
    a.delete()
    stays(name)
    check("a_copied_instance_shares_its_file: the copy is gone")
    Article.objects.filter(image=name).first().delete()
    gone(name)


@scenario()
def two_rows_swap_their_files():
    a, b = article(), article()
    names = [a.image.name, b.image.name]
    Article.objects.filter(pk__in=[a.pk, b.pk]).update(image=Case(When(pk=a.pk, then=Value(names[1])), default=Value(names[0])))
    a.refresh_from_db()
    assert a.image.name == names[1]
    stays(*names)


@scenario()
def a_file_moves_to_another_table():
    a = article()
    name = a.image.name
    with transaction.atomic():
        Sheet.objects.create(front=name)
        a.delete()
    stays(name)


@scenario()
def a_thousand_rows():
    names = [f"many/{n}.txt" for n in range(1000)]
    for name in names:
        put(name)
    Setting.objects.bulk_create(Setting(slug=f"many{n}", file=name) for n, name in enumerate(names))
    shared = Sheet.objects.create(front=names[500])
    Setting.objects.filter(slug__startswith="many").delete()
    gone(*(set(names) - {shared.front.name}))
    stays(shared.front.name)


@scenario()
def imagekits_cache_files_go_with_their_original():
    a, b, c = article(), article(), article()
    names, thumbnails = [x.image.name for x in (a, b, c)], [thumbnail(x) for x in (a, b, c)]
    assert thumbnails[0].startswith("CACHE/images/"), thumbnails
    a.delete()
    b.image = picture()
    b.save()
    gone(*names[:2], *thumbnails[:2])
    stays(names[2])
    orphan(thumbnails[2])


@scenario()
def imagekits_cache_files_stay_as_long_as_a_sibling_does():
    """photo.jpg and photo.png share CACHE/images/photo/."""
    a = article()
    shared = thumbnail(a)
    sibling = a.image.name.removesuffix(".jpg") + ".png"
    put(sibling)
    Sheet.objects.create(front=sibling)
    name = a.image.name
    a.delete()
    gone(name)
    stays(sibling)
    orphan(shared)


# --- the collector itself ----------------------------------------------------------------------------------------------------------------


# Shrine, CarrierWave, Laravel Media Library or unused-media: the old file exists until the job has run; the source is already gone.
@scenario()
def releases_while_the_collector_is_down():
    a, b = article(), article()
    names = [a.image.name, b.image.name]
    ask(stop=True)
    a.delete()
    b.image = picture()
    b.save()
    ask(files=names)  # nobody else deletes
    ask(start={})
    gone(*names)
    stays(b.image.name)


@scenario()
def without_a_trash():
    ask(stop=True)
    ask(start={"trash": False})
    before = ask(trash=True)["files"]
    a, b = article(), article()
    names = [a.image.name, b.image.name]
    a.delete()
    b.image = picture()
    b.save()
    gone(*names)
    stays(b.image.name)
    check("without_a_trash: erased")
    # Files are held for a moment, then erased.
    end = time.monotonic() + 60
    while set(ask(trash=True)["files"]) - set(before):  # what lay there before may be erased meanwhile
        assert time.monotonic() < end, "something stays in a trash that is off"
        time.sleep(0.1)
    ask(stop=True)
    ask(start={})


@scenario()
def two_processes_replace_the_same_picture():
    # Here names are used again for new bytes while they wait to be collected, so the time between upload and commit matters: `min_age`
    # must be longer than it, as in production.
    ask(stop=True)
    ask(start={"min_age": 3000})
    a = article(image=picture("race.jpg"))
    racers = [
        subprocess.Popen([sys.executable, "racer.py", str(a.pk), "80"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("\n")
        racer.stdin.flush()
    for racer in racers:
        out, _ = racer.communicate(timeout=120)
        errors = json.loads(out)["errors"]
        assert racer.returncode == 0 and not errors, f"{len(errors)} writes of the application failed: {errors[:3]}"
    a.refresh_from_db()
    stays(a.image.name)
    check("two_processes_replace_the_same_picture: the race is over")
    ask(stop=True)
    ask(start={})


@scenario()
def uploads_into_a_folder_that_empties():
    """A folder that a deletion left empty is removed, and Django makes it and opens a file in it in two steps."""
    ask(stop=True)
    ask(start={"min_age": 0})
    for _ in range(15):
        s = Sheet.objects.create(front=text("alone.txt"))
        path = s.front.path
        s.delete()
        end = time.time() + 60
        while os.path.exists(path):  # no pause: the next upload shall meet the removal of the folder
            assert time.time() < end, f"{path} does not go"
    ask(stop=True)
    ask(start={})


# --- migrations --------------------------------------------------------------------------------------------------------------------------


def migrate(number):
    call_command("migrate", "blog", number, verbosity=0, interactive=False)


@scenario()
def migrations_of_a_bound_table():
    global _document_column
    ask(stop=True)
    ask(start={"min_age": 3000})  # the writer's names are used again, as in the race
    writer = subprocess.Popen([sys.executable, "writer.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdout.readline() == "ready\n"
    windows = []

    # The collector goes on by itself. Where a migration rebuilds the table (SQLite) it puts capture back and says that there was a gap.
    for number in ("0002", "0003", "0004", "0005", "0006", "0007"):
        begin = time.time()
        migrate(number)
        ask(whole=number)
        windows.append((begin, time.time()))

    # The bound column has another name now: nobody but a person knows that it is the same.
    begin = time.time()
    migrate("0008")
    _document_column = "upload"
    ask(stopped="0008")
    waiting = article()
    name = waiting.image.name
    waiting.delete()
    ask(stop=True)
    ask(collect=4)
    ask(files=[name])
    ask(bindings=bindings())
    ask(attach=True)
    ask(start={"min_age": 3000})
    ask(whole="0008")
    windows.append((begin, time.time()))
    gone(name)

    begin = time.time()
    migrate("0009")
    _document_column = "file"
    ask(stopped="0009")
    ask(stop=True)
    ask(bindings=bindings())
    ask(attach=True)
    ask(start={"min_age": 3000})
    ask(whole="0009")
    windows.append((begin, time.time()))

    out, _ = writer.communicate(timeout=60)
    report = json.loads(out)
    assert not report["errors"], f"{len(report['errors'])} of {report['writes']} writes of the application failed: {report['errors'][:3]}"
    # It went on writing all the time; how fast is the machine's affair.
    assert report["writes"] > 2 * len(windows), report["writes"]
    # What was released while capture may have been away is the sweep's; everything else must be gone.
    may = {name for name, since, until in report["released"] if any(since < end and begin < until for begin, end in windows)}
    gone(*({name for name, _, _ in report["released"]} - may - named()))
    check("migrations_of_a_bound_table: the writer has ended", may=may, renamed=True)

    document = sorted(name for name in named() if name.startswith("documents/"))[0]
    sql("delete from blog_document where file = %s", document)
    gone(document)
    ask(gaps=VENDOR == "sqlite")
    ask(stop=True)
    ask(start={})


def main():
    only = os.environ.get("DJANGO_SCENARIO")  # for a person who looks into one
    migrate("0001")
    put(DEFAULT)
    put(NEVER_NAMED)
    ask(bindings=bindings())
    ask(attach=True)
    ask(start={})
    done = 0
    for function in _scenarios:
        if only and only not in function.__name__:
            continue
        ask(scenario=function.__name__)
        function()
        check(function.__name__)
        done += 1
    ask(done=done)


if __name__ == "__main__":
    main()
