"""Pages of reward models and comparisons, one list of paths per resource."""

from rmeval.urls.audits import audit_urls
from rmeval.urls.comparisons import comparison_urls
from rmeval.urls.playground import playground_urls
from rmeval.urls.reward_models import reward_model_urls
from rmeval.urls.runs import run_urls
from rmeval.urls.studies import study_urls

app_name = "rmeval"
urlpatterns = [*run_urls, *audit_urls, *playground_urls, *study_urls, *reward_model_urls, *comparison_urls]
