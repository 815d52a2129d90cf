"""REST paths of annotation, below /api/v1/."""

from annotator.api.accounts import account_api_urls
from annotator.api.datasets import dataset_api_urls
from annotator.api.projects import project_api_urls
from annotator.api.queues import queue_api_urls
from annotator.api.snapshots import snapshot_api_urls

app_name = "annotator-api"
urlpatterns = [*account_api_urls, *project_api_urls, *dataset_api_urls, *queue_api_urls, *snapshot_api_urls]
