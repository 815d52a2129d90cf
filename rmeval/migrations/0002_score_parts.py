from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("rmeval", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="score",
            name="parts",
            field=models.JSONField(
                help_text="What the family tells besides the reward: attributes, spread, tokens, steps.", null=True
            ),
        ),
    ]
