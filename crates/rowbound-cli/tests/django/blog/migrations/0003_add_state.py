from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("blog", "0002_alter_title")]
    operations = [migrations.AddField("Document", "state", models.CharField(default="new", max_length=20))]
