"""Settings: the guard first in MIDDLEWARE, nothing else."""

SECRET_KEY = "for tests alone"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.djangosite.urls"
INSTALLED_APPS = ["crawlguard.django"]
MIDDLEWARE = ["crawlguard.django.CrawlGuardMiddleware"]
CRAWLGUARD: dict[str, object] = {"store": "memory"}
USE_TZ = True
