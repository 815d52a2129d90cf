"""Pages of annotation, one list of paths per resource."""

from annotator.urls.accounts import account_urls
from annotator.urls.datasets import dataset_urls
from annotator.urls.projects import project_urls
from annotator.urls.queues import queue_urls
from annotator.urls.snapshots import snapshot_urls

app_name = "annotator"
urlpatterns = [*account_urls, *project_urls, *dataset_urls, *queue_urls, *snapshot_urls]
