from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("blog", "0007_remove_draft")]
    operations = [migrations.RenameField("Document", "file", "upload")]
