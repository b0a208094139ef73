"""Deletes the keys on stdin, one a line, with boto3, and prints the seconds it took: wall, CPU.

    delete.py BUCKET ENDPOINT one     one request a key, as django-storages' S3Storage.delete() does
    delete.py BUCKET ENDPOINT bulk    DeleteObjects with 1,000 keys a request
    delete.py BUCKET ENDPOINT look    the same, after two listings: what it takes to delete only what was looked at
"""

import sys
import time

import boto3
from botocore.config import Config

bucket, endpoint, way = sys.argv[1:]
keys = sys.stdin.read().splitlines()
s3 = boto3.resource("s3", endpoint_url=endpoint, config=Config(s3={"addressing_style": "path"})).Bucket(bucket)
s3.Object("none").delete()  # connects
wall, cpu = time.perf_counter(), time.process_time()
if way == "one":
    for key in keys:
        s3.Object(key).delete()
else:
    if way == "look":
        for _ in range(2):
            assert sum(1 for _ in s3.objects.all()) >= len(keys)
    for start in range(0, len(keys), 1000):
        done = s3.delete_objects(Delete={"Objects": [{"Key": key} for key in keys[start : start + 1000]], "Quiet": True})
        assert not done.get("Errors"), done["Errors"]
print(time.perf_counter() - wall, time.process_time() - cpu)
