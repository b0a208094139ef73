from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("blog", "0003_add_state")]
    operations = [migrations.AlterField("Document", "file", models.FileField(max_length=255, upload_to="documents/"))]
