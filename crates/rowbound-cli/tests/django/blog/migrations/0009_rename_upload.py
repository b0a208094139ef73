from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("blog", "0008_rename_file")]
    operations = [migrations.RenameField("Document", "upload", "file")]
