from django.apps import AppConfig


class RmevalConfig(AppConfig):
    name = "rmeval"
    verbose_name = "Reward models"
