from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("annotator", "0002_dataset_import_state")]

    operations = [
        migrations.CreateModel(
            name="LoginFailure",
            fields=[
                (
                    "key",
                    models.CharField(
                        help_text="SHA-256 of account and address.", max_length=64, primary_key=True, serialize=False
                    ),
                ),
                ("n_failed", models.PositiveIntegerField(default=0)),
                ("last_at", models.DateTimeField()),
            ],
        ),
        migrations.AddField(
            model_name="snapshot",
            name="enqueued_at",
            field=models.DateTimeField(blank=True, help_text="Last time a worker was asked to cut it.", null=True),
        ),
        migrations.AddField(
            model_name="snapshot",
            name="idempotency_key",
            field=models.CharField(blank=True, max_length=64, null=True),
        ),
        migrations.AddConstraint(
            model_name="snapshot",
            constraint=models.UniqueConstraint(fields=("queue", "idempotency_key"), name="snapshot_idempotency"),
        ),
    ]
