from django.apps import AppConfig


class SteelyardConfig(AppConfig):
    """The wiring: management commands of the site and the Celery app that shared tasks bind to."""

    name = "steelyard"
    verbose_name = "Steelyard"

    def ready(self) -> None:
        from steelyard.celery import app

        app.set_default()
