"""One of two processes that replace the same row's picture again and again, always under the same wish of a name.

    python racer.py KEY ROUNDS

Begins when a line comes on stdin; prints one JSON object at the end.
"""

import json
import sys

import protocol

protocol.setup()

from django.core.files.base import ContentFile  # noqa: E402

from blog.models import Article  # noqa: E402
from scenarios import PICTURE  # noqa: E402

key, rounds = int(sys.argv[1]), int(sys.argv[2])
errors = []
Article.objects.get(pk=key)  # the connection is there before the race
sys.__stdout__.write("ready\n")
sys.__stdout__.flush()
sys.stdin.readline()
for _ in range(rounds):
    try:
        article = Article.objects.get(pk=key)
        article.image = ContentFile(PICTURE, "race.jpg")
        article.save()
    except Exception as error:
        errors.append(f"{type(error).__name__}: {error}")
sys.__stdout__.write(json.dumps({"errors": errors}) + "\n")
