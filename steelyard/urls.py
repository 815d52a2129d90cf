"""Every address of the site."""

from django.contrib import admin
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView

from steelyard.health import healthz, metrics, readyz

urlpatterns = [
    path("api/v1/", include("annotator.api.urls")),
    path("api/v1/", include("rmeval.api.urls")),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("healthz", healthz, name="healthz"),
    path("readyz", readyz, name="readyz"),
    path("metrics", metrics, name="metrics"),
    path("admin/", admin.site.urls),
    path("", include("rmeval.urls")),
    path("", include("annotator.urls")),
]
handler404 = "annotator.views.errors.not_found"
handler400 = "annotator.views.errors.bad_request"
handler403 = "annotator.views.errors.forbidden"
handler500 = "annotator.views.errors.server_error"
