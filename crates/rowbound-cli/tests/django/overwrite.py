"""Rows that are deleted and made again under the same name, again and again, on a storage that overwrites.

    python overwrite.py NAMES ROUNDS

NAMES threads have a name each. A round: the row is deleted, the row is made again with new bytes under the same name, and its file must hold
just these bytes until the row goes. Between the two the collector may take the old file away, or not: the pause is random. A file is let
go of only when it is older than the margin within which clocks are not trusted, else nothing would ever be deleted here.

Prints "ready" when every row stands, begins when a line comes on stdin, and prints one JSON object at the end: rounds, what was lost, and how many
of the old files were gone before they were written again.
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
from django.db import connection  # noqa: E402

from blog.models import Document  # noqa: E402

names, rounds = int(sys.argv[1]), int(sys.argv[2])
MARGIN = 2.2  # seconds
lost, errors, made, collected = [], [], [0], [0]
lock = threading.Lock()
standing, go = threading.Barrier(names + 1), threading.Event()


def write(name, body):
    document = Document()
    document.file.save(name, ContentFile(body), save=False)
    assert document.file.name.endswith(name), f"the storage does not overwrite: {document.file.name}"
    document.save()
    return document


def check(name, body):
    """The row stands, so its file does, with its own bytes."""
    try:
        with default_storage.open(name) as file:
            found = file.read()
    except FileNotFoundError:
        found = None
    if found != body:
        with lock:
            lost.append(f"{name}: {body!r} was written, {found!r} is there")


def run(index):
    dice = random.Random(index)
    name = f"again-{index}.txt"
    try:
        body = f"{index} 0".encode()
        document = write(name, body)
        standing.wait()
        go.wait()
        for n in range(1, rounds + 1):
            time.sleep(MARGIN + dice.random() / 2)
            check(document.file.name, body)
            Document.objects.filter(pk=document.pk).delete()
            time.sleep(dice.choice([0, 0.005, 0.02, 0.05, 0.2, 1]) * dice.random())
            if dice.random() < 0.1 and not default_storage.exists(document.file.name):
                with lock:
                    collected[0] += 1
            body = f"{index} {n}".encode()
            document = write(name, body)
            check(document.file.name, body)
            with lock:
                made[0] += 1
    except Exception as error:
        errors.append(f"{name}: {type(error).__name__}: {error}")
        standing.abort()
    finally:
        connection.close()


threads = [threading.Thread(target=run, args=(i,)) for i in range(names)]
for thread in threads:
    thread.start()
try:
    standing.wait()
except threading.BrokenBarrierError:
    pass
sys.__stdout__.write("ready\n")
sys.__stdout__.flush()
sys.stdin.readline()
go.set()
for thread in threads:
    thread.join()
sys.__stdout__.write(json.dumps({"rounds": made[0], "lost": lost, "errors": errors, "collected": collected[0]}) + "\n")
