from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("blog", "0006_rename_note")]
    operations = [migrations.RemoveField("Document", "draft")]
