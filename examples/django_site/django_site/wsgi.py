"""The project's WSGI application: `starman-uv`, in the directory of manage.py, finds it by itself."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "django_site.settings")

application = get_wsgi_application()
