from typing import Any

from django.core.management.base import BaseCommand

from steelyard.prepare import install_broker_if_needed


class Command(BaseCommand):
    help = "Install the broker's tables and functions (PGMQ) in the site's database; does nothing when they are there."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write("installed" if install_broker_if_needed() else "nothing to do")
