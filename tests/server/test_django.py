"""A Django project: the admin with its CSRF checks, forms, files, streams, allowed hosts."""

from __future__ import annotations

import hashlib
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.conftest import Serve
from tests.support.certs import Certs
from tests.support.server import ROOT, Server

pytest.importorskip("django")
pytest.importorskip("httpx")

import httpx

from tests.support import http_client
from tests.support.http_client import WIRES, Wire

HOST = "django.test"
USER, PASSWORD = "admin", "correct horse battery staple"
CONTENT = random.Random(1).randbytes(1_000_000)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables that the project is run with, once it has its database."""
    directory = tmp_path_factory.mktemp("django")
    (directory / "content.bin").write_bytes(CONTENT)
    variables = {
        "DJANGO_APP_DIR": str(directory),
        "DJANGO_APP_HOST": HOST,
        "DJANGO_SUPERUSER_USERNAME": USER,
        "DJANGO_SUPERUSER_PASSWORD": PASSWORD,
        "DJANGO_SUPERUSER_EMAIL": "admin@django.test",
    }
    subprocess.run(
        [sys.executable, "-m", "tests.support.django_app"],
        cwd=ROOT,
        env={**os.environ, **variables},
        check=True,
        timeout=60,
    )
    return variables


@pytest.fixture(scope="module", params=WIRES, ids=str)
def wire(request: pytest.FixtureRequest) -> Wire:
    wire: Wire = request.param
    return wire


@pytest.fixture(scope="module")
def server(wire: Wire, module_serve: Serve, environment: dict[str, str]) -> Server:
    return module_serve(
        "tests.support.django_app:application", tls=wire.tls, threads=4, env=environment
    )


@pytest.fixture
def client(wire: Wire, server: Server, certs: Certs) -> Iterator[httpx.Client]:
    with http_client.client(certs, server.url, wire.http2) as client:
        client.headers["Host"] = HOST
        yield client


def origin(wire: Wire) -> str:
    return f"{'https' if wire.tls else 'http'}://{HOST}"


def csrf_token(page: httpx.Response) -> str:
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    assert token is not None, page.text
    return token[1]


def log_in(client: httpx.Client, headers: dict[str, str], **changed: str) -> httpx.Response:
    """Fill in the admin's form as a browser would; its cookies end up in the client."""
    page = client.get("/admin/login/?next=/admin/")
    form = {"username": USER, "password": PASSWORD, "csrfmiddlewaretoken": csrf_token(page)}
    return client.post(
        "/admin/login/?next=/admin/", data={**form, "next": "/admin/", **changed}, headers=headers
    )


def test_request_knows_how_it_came(client: httpx.Client, wire: Wire) -> None:
    seen = client.get("/seen", params={"q": "ü"}).json()
    assert seen["secure"] is wire.tls
    assert seen["uri"] == f"{origin(wire)}/seen?q=%C3%BC"
    assert (seen["host"], seen["user"]) == (HOST, "")


def test_admin_login_with_csrf_and_cookies(client: httpx.Client, wire: Wire) -> None:
    anonymous = client.get("/admin/")
    assert anonymous.status_code == 302
    assert anonymous.headers["location"] == "/admin/login/?next=/admin/"

    # Over HTTPS Django compares the Origin with the scheme and host it sees.
    answer = log_in(client, {"Origin": origin(wire), "Referer": f"{origin(wire)}/admin/login/"})
    assert (answer.status_code, answer.headers["location"]) == (302, "/admin/")
    cookies = answer.headers.get_list("set-cookie")
    assert {cookie.partition("=")[0] for cookie in cookies} == {"csrftoken", "sessionid"}

    admin = client.get("/admin/")
    assert admin.status_code == 200
    assert "Site administration" in admin.text
    assert client.get("/seen").json()["user"] == USER


def test_form_of_the_admin_is_saved(client: httpx.Client, wire: Wire) -> None:
    referer = {"Referer": f"{origin(wire)}/admin/"}
    log_in(client, referer)
    page = client.get("/admin/auth/group/add/")
    name = f"group over {wire}"
    form = {"name": name, "csrfmiddlewaretoken": csrf_token(page)}
    saved = client.post("/admin/auth/group/add/", data=form, headers=referer, follow_redirects=True)
    assert saved.status_code == 200
    assert "was added successfully" in saved.text
    assert name in client.get("/admin/auth/group/").text


@pytest.mark.parametrize(
    "changed", [{"csrfmiddlewaretoken": "x" * 64}, {"csrfmiddlewaretoken": ""}], ids=["wrong", "no"]
)
def test_wrong_csrf_token_is_refused(
    client: httpx.Client, wire: Wire, changed: dict[str, str]
) -> None:
    answer = log_in(client, {"Referer": f"{origin(wire)}/admin/login/"}, **changed)
    assert answer.status_code == 403
    assert "CSRF verification failed" in answer.text


def test_foreign_origin_is_refused(client: httpx.Client) -> None:
    assert log_in(client, {"Origin": "https://elsewhere.test"}).status_code == 403


def test_wrong_password_shows_the_form_again(client: httpx.Client, wire: Wire) -> None:
    answer = log_in(client, {"Referer": f"{origin(wire)}/admin/login/"}, password="wrong")
    assert answer.status_code == 200
    assert "Please enter the correct username and password" in answer.text
    assert client.get("/admin/").status_code == 302


def test_streaming_response(client: httpx.Client) -> None:
    response = client.get("/stream/5000")
    assert response.text == "".join(f"line {number}\n" for number in range(5000))
    assert "content-length" not in response.headers


def test_file_response(client: httpx.Client) -> None:
    response = client.get("/file")
    assert response.content == CONTENT
    assert response.headers["content-length"] == str(len(CONTENT))
    assert response.headers["content-disposition"] == (
        "attachment; filename*=utf-8''donn%C3%A9es.bin"
    )
    head = client.head("/file")
    assert (head.content, head.headers["content-length"]) == (b"", str(len(CONTENT)))


@pytest.mark.parametrize("size", [1, 100_000, 4_000_000])
def test_upload_form(client: httpx.Client, wire: Wire, size: int) -> None:
    # Above 2.5 MB Django writes the upload to disk as it arrives.
    content = random.Random(size).randbytes(size)
    token = csrf_token(client.get("/upload"))
    response = client.post(
        "/upload",
        data={"title": "Über", "csrfmiddlewaretoken": token},
        files={"file": ("größe.bin", content)},
        headers={"Referer": f"{origin(wire)}/upload"},
    )
    assert response.json() == {
        "title": "Über",
        "name": "größe.bin",
        "size": size,
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def test_incomplete_upload_form_is_shown_again(client: httpx.Client, wire: Wire) -> None:
    token = csrf_token(client.get("/upload"))
    response = client.post(
        "/upload",
        data={"title": "no file", "csrfmiddlewaretoken": token},
        headers={"Referer": f"{origin(wire)}/upload"},
    )
    assert response.status_code == 422
    assert "This field is required" in response.text


def test_missing_static_file_is_not_found(client: httpx.Client) -> None:
    response = client.get("/static/nothing.css")
    assert response.status_code == 404
    assert "Not Found" in response.text


def test_redirect_names_scheme_and_host(client: httpx.Client, wire: Wire) -> None:
    response = client.get("/redirect")
    assert (response.status_code, response.headers["location"]) == (302, f"{origin(wire)}/seen")


@pytest.mark.parametrize("host", ["elsewhere.test", "django.test.elsewhere.test", "127.0.0.1"])
def test_other_hosts_are_refused(client: httpx.Client, host: str) -> None:
    assert client.get("/seen", headers={"Host": host}).status_code == 400
    assert client.get("/seen").status_code == 200


def test_host_with_port_is_allowed(client: httpx.Client) -> None:
    assert client.get("/seen", headers={"Host": f"{HOST}:8443"}).json()["host"] == f"{HOST}:8443"
