from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("blog", "0004_alter_file")]
    operations = [migrations.AddIndex("Document", models.Index(fields=["state", "title"], name="blog_document_state"))]
