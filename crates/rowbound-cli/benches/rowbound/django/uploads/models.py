"""The table `doc` of the benchmark as Django sees it."""

from django.db import models


class Doc(models.Model):
    file = models.FileField(max_length=255, null=True)
    title = models.CharField(max_length=255, null=True)

    class Meta:
        managed = False
        db_table = "doc"
