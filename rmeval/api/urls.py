"""REST paths of reward models, below /api/v1/."""

from rmeval.api.audits import audit_api_urls
from rmeval.api.comparisons import comparison_api_urls
from rmeval.api.exports import export_api_urls
from rmeval.api.reward_models import reward_model_api_urls
from rmeval.api.runs import run_api_urls
from rmeval.api.scores import score_api_urls
from rmeval.api.settings import settings_api_urls
from rmeval.api.studies import study_api_urls

app_name = "rmeval-api"
urlpatterns = [
    *run_api_urls,
    *audit_api_urls,
    *study_api_urls,
    *export_api_urls,
    *reward_model_api_urls,
    *comparison_api_urls,
    *score_api_urls,
    *settings_api_urls,
]
