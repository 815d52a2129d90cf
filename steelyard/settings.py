"""Settings: one file; each value is read once from the environment."""

from datetime import timedelta
from pathlib import Path

import django_stubs_ext
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from steelyard.env import database_from_url, env_bool, env_int, env_list, env_secret, env_str

django_stubs_ext.monkeypatch()  # ModelForm[Project] and the like are names at run time too
BASE_DIR = Path(__file__).resolve().parent.parent
PRODUCTION = env_str("STEELYARD_ENV", "development") == "production"
DEBUG = env_bool("STEELYARD_DEBUG", False) and not PRODUCTION
STEELYARD_HOME = Path(env_str("STEELYARD_HOME", str(BASE_DIR))).expanduser().resolve()
VAR_DIR = STEELYARD_HOME / "var"
ARTIFACT_DIR = Path(env_str("STEELYARD_ARTIFACT_DIR", str(VAR_DIR / "artifacts")))
UPLOAD_DIR = Path(env_str("STEELYARD_UPLOAD_DIR", str(VAR_DIR / "uploads")))

SECRET_KEY = env_secret(
    "STEELYARD_SECRET_KEY", required=PRODUCTION, default="development-only-key-never-used-in-production"
)
ALLOWED_HOSTS = env_list("STEELYARD_ALLOWED_HOSTS", [] if PRODUCTION else ["*"])
if PRODUCTION and (not ALLOWED_HOSTS or "*" in ALLOWED_HOSTS):
    raise ImproperlyConfigured(
        "STEELYARD_ALLOWED_HOSTS must name the hosts of this site in production, e.g. steelyard.example.org"
    )
CSRF_TRUSTED_ORIGINS = env_list("STEELYARD_CSRF_TRUSTED_ORIGINS", [])

DATABASE_URL = env_str("STEELYARD_DATABASE_URL")
if PRODUCTION and not DATABASE_URL:
    raise ImproperlyConfigured(
        "STEELYARD_DATABASE_URL must be set in production: postgresql://user:password@host:5432/name"
    )
if not DATABASE_URL:
    # The embedded server listens on a Unix socket below var/; `make up` starts it.
    from steelyard.embedded import embedded_url

    DATABASE_URL = embedded_url(VAR_DIR)
DATABASE_POOL = env_int("STEELYARD_DATABASE_POOL", 12)
DATABASES = {"default": database_from_url(DATABASE_URL, pool_size=DATABASE_POOL)}
WEB_THREADS = DATABASE_POOL + 4  # requests a web process works on at once
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "channels",
    "csp",
    "django_htmx",
    "template_partials",
    "rest_framework",
    "drf_spectacular",
    "annotator",
    "rmeval",
    "steelyard",
]
MIDDLEWARE = [
    "steelyard.health.ProbeMiddleware",
    "steelyard.observability.RequestMetricsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.middleware.gzip.GZipMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "steelyard.middleware.PolicyMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "annotator.middleware.DomainErrorMiddleware",
]
ROOT_URLCONF = "steelyard.urls"
ASGI_APPLICATION = "steelyard.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "annotator.context.site",
            ],
            "builtins": ["annotator.templatetags.steelyard", "template_partials.templatetags.partials"],
        },
    }
]

AUTH_USER_MODEL = "annotator.User"
LOGIN_URL = "annotator:login"
LOGIN_REDIRECT_URL = "annotator:home"
LOGOUT_REDIRECT_URL = "annotator:login"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
DEMO_LOGINS = not PRODUCTION
# Of the demo users; in production the demo has no known password.
DEMO_PASSWORD = "" if PRODUCTION else env_str("STEELYARD_DEMO_PASSWORD", "steelyard")

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("de", "Deutsch"), ("ar", "العربية")]
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = Path(env_str("STEELYARD_STATIC_ROOT", str(VAR_DIR / "static")))
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "steelyard.storage.HashedStorage"
        if PRODUCTION
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = not PRODUCTION
WHITENOISE_AUTOREFRESH = not PRODUCTION  # a file that changes under a running site must not be cut short

# Security: https cookies and HSTS wherever the site is served in production.
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = PRODUCTION and env_bool("STEELYARD_HTTPS", True)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if env_bool("STEELYARD_BEHIND_PROXY", False) else None
# Proxies of our own in front, each appending to X-Forwarded-For; only then is that header believed.
TRUSTED_PROXIES = env_int("STEELYARD_TRUSTED_PROXIES", 0)
if TRUSTED_PROXIES < 0:
    raise ImproperlyConfigured(f"STEELYARD_TRUSTED_PROXIES must be 0 or more, not {TRUSTED_PROXIES}")
SECURE_HSTS_SECONDS = 31_536_000 if PRODUCTION else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = PRODUCTION
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_NAME = env_str("STEELYARD_SESSION_COOKIE", "steelyard_session")
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [SELF],
        "frame-ancestors": [NONE],
        "manifest-src": [SELF],
    }
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 5 * 1024 * 1024
FILE_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024
MAX_STRANGERS_BODY = DATA_UPLOAD_MAX_MEMORY_SIZE  # read from anybody; more from people with an account only

# Live updates: one broadcast inside a web process; the database carries it between processes.
REDIS_CHANNEL_URL = env_str("STEELYARD_CHANNEL_REDIS_URL")
CHANNEL_LAYERS: dict[str, dict[str, object]] = {
    "default": {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"capacity": 1000}}
}
if REDIS_CHANNEL_URL:
    # redis-py 8 closes idle sockets after five seconds unless the timeout is off.
    hosts = [{"address": REDIS_CHANNEL_URL, "socket_timeout": None}]
    CHANNEL_LAYERS["default"] = {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {"hosts": hosts},
    }

# Celery: the broker is a wake-up call; the run rows are the truth.
BROKER_URL = env_str("STEELYARD_BROKER_URL", "pgmq://")
METRICS_TOKEN = env_str("STEELYARD_METRICS_TOKEN")
# Folders a backbone may be loaded from. On one's own machine any; a shared site names them.
MODEL_DIRS = [
    Path(name).expanduser().resolve()
    for name in env_list("STEELYARD_MODEL_DIRS", [str(VAR_DIR / "models")] if PRODUCTION else ["/"])
]
JOB_TIME_LIMIT_S = env_int("STEELYARD_JOB_TIME_LIMIT_S", 24 * 3600)

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "annotator.authentication.TokenAuthentication",
        "annotator.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["annotator.renderers.JsonRenderer"],
    "DEFAULT_PARSER_CLASSES": ["annotator.parsers.BoundedJsonParser"],
    "DEFAULT_SCHEMA_CLASS": "annotator.schema.NestedSchema",
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "annotator.negotiation.AnyAccept",
    "EXCEPTION_HANDLER": "annotator.problems.problem_handler",
    "DEFAULT_PAGINATION_CLASS": "annotator.pagination.PkCursorPagination",
    "PAGE_SIZE": 50,
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Steelyard API",
    "DESCRIPTION": "Preference annotation and reward-model comparison.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "COMPONENT_SPLIT_REQUEST": True,
    "SCHEMA_PATH_PREFIX": "/api/v1/",
    "ENUM_NAME_OVERRIDES": {
        "DatasetStateEnum": "annotator.models.Dataset.State",
        "QueueStateEnum": "annotator.models.Queue.State",
        "SnapshotStateEnum": "annotator.models.Snapshot.State",
        "RunStateEnum": "rmeval.models.Run.State",
        "MemberRoleEnum": "annotator.models.Role",
        "PairEditKindEnum": "rmeval.models.PairEdit.Kind",
        "SourceKindEnum": ["dataset", "snapshot"],
    },
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "annotator.problems.add_problem_schema",
    ],
}

# Domain values, handed to services as arguments.
IMPORT_MAX_BYTES = env_int("STEELYARD_IMPORT_MAX_BYTES", 20 * 1024**3)
UNDO_WINDOW = timedelta(seconds=env_int("STEELYARD_UNDO_WINDOW_S", 600))
RUN_HEARTBEAT_STALE = timedelta(seconds=env_int("STEELYARD_HEARTBEAT_STALE_S", 20))
RUN_MAX_ATTEMPTS = 3

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "json": {
            "()": "pythonjsonlogger.json.JsonFormatter",
            "fmt": "%(asctime)s %(levelname)s %(name)s %(process)d %(request_id)s %(message)s",
        },
        "plain": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"},
    },
    "filters": {"request_id": {"()": "steelyard.observability.RequestIdFilter"}},
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": "json" if PRODUCTION else "plain",
            "filters": ["request_id"],
        }
    },
    "root": {"handlers": ["console"], "level": env_str("STEELYARD_LOG_LEVEL", "INFO")},
    "loggers": {
        "django.server": {"propagate": True, "handlers": []},
        "httpx": {"level": "WARNING"},
        "uvicorn.error": {"level": "WARNING"},
    },
}
