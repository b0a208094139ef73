from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("blog", "0005_add_index")]
    operations = [migrations.RenameField("Document", "note", "remark")]
