"""A Django project in one file: admin, sessions, forms, files and streams over sqlite.

``DJANGO_APP_DIR`` names the directory of the database and of ``content.bin``, which
``/file`` serves, and ``DJANGO_APP_HOST`` the only host it answers for. Run as a module
it makes the database, with the superuser of the ``DJANGO_SUPERUSER_...`` variables.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
from collections.abc import Iterator

import django
from django.conf import settings

DIRECTORY = pathlib.Path(os.environ["DJANGO_APP_DIR"])

settings.configure(
    SECRET_KEY="only for tests",
    ALLOWED_HOSTS=[os.environ["DJANGO_APP_HOST"]],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.messages",
        "django.contrib.sessions",
        "django.contrib.staticfiles",
    ],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ]
            },
        }
    ],
    DATABASES={
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": DIRECTORY / "db.sqlite3"}
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    STATIC_URL="/static/",
    USE_TZ=True,
)
django.setup()

# Django's models and views can be imported only when it is set up.
from django import forms  # noqa: E402
from django.contrib import admin  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import (  # noqa: E402
    FileResponse,
    HttpRequest,
    HttpResponse,
    JsonResponse,
    StreamingHttpResponse,
)
from django.template import engines  # noqa: E402
from django.urls import path  # noqa: E402

FORM_PAGE = """\
<form method="post" enctype="multipart/form-data">{% csrf_token %}{{ form }}<input type="submit">
</form>"""


class UploadForm(forms.Form):  # type: ignore[misc]  # Django is not typed
    title = forms.CharField(max_length=50)
    file = forms.FileField()


def seen(request: HttpRequest) -> JsonResponse:
    return JsonResponse(
        {
            "secure": request.is_secure(),
            "scheme": request.scheme,
            "host": request.get_host(),
            "uri": request.build_absolute_uri(),
            "protocol": request.META["SERVER_PROTOCOL"],
            "user": request.user.get_username(),
        }
    )


def stream(request: HttpRequest, lines: int) -> StreamingHttpResponse:
    def produced() -> Iterator[str]:
        for number in range(lines):
            yield f"line {number}\n"

    return StreamingHttpResponse(produced(), content_type="text/plain")


def file(request: HttpRequest) -> FileResponse:
    opened = (DIRECTORY / "content.bin").open("rb")
    return FileResponse(opened, as_attachment=True, filename="données.bin")


def upload(request: HttpRequest) -> HttpResponse:
    form = UploadForm(request.POST or None, request.FILES or None)
    if not form.is_valid():
        page = engines["django"].from_string(FORM_PAGE)
        status = 200 if request.method == "GET" else 422
        return HttpResponse(page.render({"form": form}, request), status=status)
    received, digest = form.cleaned_data["file"], hashlib.sha256()
    for chunk in received.chunks():
        digest.update(chunk)
    return JsonResponse(
        {
            "title": form.cleaned_data["title"],
            "name": received.name,
            "size": received.size,
            "sha256": digest.hexdigest(),
        }
    )


def redirect_me(request: HttpRequest) -> HttpResponse:
    return HttpResponse(status=302, headers={"Location": request.build_absolute_uri("/seen")})


urlpatterns = [
    path("admin/", admin.site.urls),
    path("seen", seen),
    path("stream/<int:lines>", stream),
    path("file", file),
    path("upload", upload),
    path("redirect", redirect_me),
]

application = get_wsgi_application()


if __name__ == "__main__":
    call_command("migrate", verbosity=0)
    call_command("createsuperuser", interactive=False, verbosity=0)
