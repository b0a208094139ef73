"""An application that never stops writing, while migrations change its table under it.

Inserts, replaces, updates another column and deletes rows of blog_document, each statement a transaction of its own, until its stdin closes.
Every failed statement is an error, with one exception: a statement that names the file's column may come too late for its own name, like
that of any application that was started before the migration. It asks for the column's name and tries again. What a trigger says of a
missing column is an error.

Prints "ready" after the first round and at the end one JSON object: writes, errors, and each released name with the times between which
its row let go of it.
"""

import json
import random
import sys
import threading
import time

import protocol

protocol.setup()

from django.core.files.base import ContentFile  # noqa: E402
from django.core.files.storage import default_storage  # noqa: E402
from django.db import DatabaseError, connection  # noqa: E402

errors, released, rows = [], [], []
writes = 0
column = "file"


def find_columns():
    with connection.cursor() as cursor:
        # Not Django's introspection: on MariaDB it asks twice and stumbles over a migration in between.
        cursor.execute("select * from blog_document where 1 = 0")
        return [c[0] for c in cursor.description]


def find_column():
    return "upload" if "upload" in find_columns() else "file"


def is_own_mistake(error):
    """Whether the statement named the file's column by a name that it no longer has, or not yet."""
    text = str(error).lower()
    if "'old'" in text or "'new'" in text or "record" in text:  # a trigger speaks
        return False
    return f"{column}" in text and any(w in text for w in ("no such column", "has no column", "unknown column", "does not exist"))


def write(sql, *params, names_the_column=False):
    """Runs one statement; whether it succeeded."""
    global writes, column
    writes += 1
    for _ in range(3):
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql.format(column=connection.ops.quote_name(column)), params)
                return True
        except DatabaseError as error:
            if names_the_column and is_own_mistake(error):
                column = find_column()
                continue
            errors.append(f"{type(error).__name__}: {error} -- {sql}")
            return False
    errors.append(f"the column kept changing its name -- {sql}")
    return False


def insert():
    name = default_storage.save("documents/writer.txt", ContentFile(b"x"))
    # The newest columns have no default in the database (Django drops it), so an application that knows them gives them.
    columns = {"title": "t", "note": "", "remark": "", "draft": "", "state": "new"}
    global writes
    writes += 1
    for _ in range(5):
        there = find_columns()
        file_column = "upload" if "upload" in there else "file"
        pairs = {c: v for c, v in columns.items() if c in there} | {file_column: name}
        quoted = ", ".join(connection.ops.quote_name(c) for c in pairs)
        sql = f"insert into blog_document ({quoted}) values ({', '.join(['%s'] * len(pairs))})"
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, list(pairs.values()))
            rows.append(name)
            return
        except DatabaseError as error:
            text = str(error).lower()
            # The table changed between the look and the statement.
            if any(w in text for w in ("no such column", "has no column", "unknown column", "does not exist", "null", "default")) and (
                "'old'" not in text and "record" not in text
            ):
                continue
            errors.append(f"{type(error).__name__}: {error} -- {sql}")
            break
    else:
        errors.append("the table kept changing")
    default_storage.delete(name)


def replace():
    old = rows.pop(random.randrange(len(rows)))
    new = default_storage.save("documents/writer.txt", ContentFile(b"x"))
    before = time.time()
    if write("update blog_document set {column} = %s where {column} = %s", new, old, names_the_column=True):
        released.append((old, before, time.time()))
        rows.append(new)
    else:
        rows.append(old)


def retitle():
    write("update blog_document set title = %s where title = 't'", "t")


def delete():
    """Deletes the oldest row that is ours by its key: the statement names no column of the file's."""
    old = rows.pop(0)
    keys = []
    for _ in range(3):
        try:
            with connection.cursor() as cursor:
                # Qualified: SQLite reads a quoted name that is no column as a string, and would find nothing.
                cursor.execute(f"select id from blog_document where blog_document.{connection.ops.quote_name(find_column())} = %s", [old])
                keys = cursor.fetchall()
            break
        except DatabaseError as error:
            last = error
    else:
        errors.append(f"{type(last).__name__}: {last} -- the look for the row to delete")
        return
    if len(keys) != 1:
        errors.append(f"{len(keys)} rows name {old}, which one was given")
        return
    before = time.time()
    if write("delete from blog_document where id = %s", keys[0][0]):
        released.append((old, before, time.time()))


stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
for _ in range(5):
    insert()
ready = False
while not stop.is_set():
    for step in (insert, replace, retitle, delete) if len(rows) > 8 else (insert, replace, retitle):
        step()
        # The pace of a busy application, not a wait for anything. Without it SQLite's file would hardly ever be free: its locks know no queue.
        if connection.vendor == "sqlite":
            stop.wait(0.01)
    if not ready:
        ready = True
        sys.__stdout__.write("ready\n")
        sys.__stdout__.flush()
sys.__stdout__.write(json.dumps({"writes": writes, "errors": errors, "released": released}) + "\n")
