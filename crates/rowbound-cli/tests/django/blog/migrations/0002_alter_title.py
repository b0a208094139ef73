from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("blog", "0001_initial")]
    operations = [migrations.AlterField("Document", "title", models.CharField(db_index=True, max_length=200))]
