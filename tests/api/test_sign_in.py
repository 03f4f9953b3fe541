"""Sign-in on a Space: an arm is pushed to the account of the visitor who signed in, and to no other."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from hub_account import OWNER, TOKEN, Account, account_of

from neftune_core.settings import Limits
from neftune_core.studies.records.record import Record, create
from neftune_core.studies.settings import EXAMPLE
from neftune_core.studies.study import run_study
from tests.stress.visitor import OWNER_KEY, Answer, Server, Visitor, served

pytest.importorskip("authlib")

jwt = pytest.importorskip("joserfc.jwt")
jwk = pytest.importorskip("joserfc.jwk")
CLIENT, SECRET = "the-space", "a-secret-of-the-space-that-is-long-enough"
SCOPES = "openid profile contribute-repos"
KEY = "5a" * 32
ARM = "uniform-alpha-5 / seed 0"


class _Provider(BaseHTTPRequestHandler):
    """Signs every visitor in as `OWNER`, as the platform does after they agree."""

    key: Any
    address: str
    nonces: dict[str, str]
    asked: dict[str, str]

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        path, said = urlsplit(self.path).path, {k: v[0] for k, v in parse_qs(urlsplit(self.path).query).items()}
        if path == "/authorize":
            self.asked.update(said)
            self.nonces["code"] = said.get("nonce", "")
            back = said["redirect_uri"] + "&" + urlencode({"code": "code", "state": said["state"]})
            self.send_response(302)
            self.send_header("Location", back)
            self.end_headers()
            return
        places = {name: f"{self.address}/{name}" for name in ("authorize", "token", "keys")}
        about = {
            "issuer": self.address,
            "authorization_endpoint": places["authorize"],
            "token_endpoint": places["token"],
            "jwks_uri": places["keys"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }
        self._answer({"keys": [self.key.as_dict(private=False, kid="one")]} if path == "/keys" else about)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        who = {"sub": "1", "name": "A Teacher", "preferred_username": OWNER, "profile": "", "picture": ""}
        now = int(time.time())
        claims = {"iss": self.address, "aud": CLIENT, "iat": now, "exp": now + 600, "nonce": self.nonces["code"], **who}
        self._answer(
            {
                "access_token": TOKEN,
                "token_type": "bearer",
                "expires_in": 600,
                "scope": SCOPES,
                "id_token": jwt.encode({"alg": "RS256", "kid": "one"}, claims, self.key),
            }
        )

    def _answer(self, said: dict[str, Any]) -> None:
        content = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def provider() -> Iterator[type[_Provider]]:
    handler = type("Provider", (_Provider,), {"nonces": {}, "asked": {}, "key": jwk.RSAKey.generate_key(2048)})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        handler.address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield handler
        server.shutdown()


@pytest.fixture(scope="module")
def hub() -> Iterator[Account]:
    with account_of() as found:
        yield found


@pytest.fixture(scope="module")
def platform() -> Iterator[type[_Provider]]:
    with provider() as found:
        yield found


@pytest.fixture(scope="module")
def space(hub: Account, platform: type[_Provider], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    environment = {
        "SYSTEM": "spaces",
        "SPACE_ID": f"{OWNER}/lab",
        "OAUTH_CLIENT_ID": CLIENT,
        "OAUTH_CLIENT_SECRET": SECRET,
        "OAUTH_SCOPES": SCOPES,
        "OPENID_PROVIDER_URL": platform.address,
        "HF_ENDPOINT": hub.address,
        "OMP_NUM_THREADS": "1",
    }
    with served(tmp_path_factory.mktemp("space"), **environment) as found:
        assert found.address.startswith("http"), found.printed()
        yield found


@pytest.fixture(scope="module")
def record(space: Server) -> Record:
    """Return a finished study of the visitor with `KEY`."""
    training = EXAMPLE.training.model_copy(update={"steps": 2, "evaluations": 1, "evaluation_rows": 4})
    measuring = EXAMPLE.measuring.model_copy(update={"prompts": 0, "robustness": False})
    made = create(
        EXAMPLE.model_copy(update={"training": training, "measuring": measuring}), KEY, folder=space.home / "runs"
    )
    assert [*run_study(made, Limits(), lambda: False)][-1]["event"] == "finished"
    return made


def sign_in(visitor: Visitor) -> None:
    """Follow the redirects of the sign-in button; the cookie requires https, which the loopback interface lacks."""
    place = "/login/huggingface?_target_url=%2F"
    for _ in range(4):
        said = visitor.client.get(place, headers=_cookies(visitor))
        if said.status_code not in (302, 307):
            break
        place = said.headers["location"]
        if urlsplit(place).path == "/":
            return
    raise AssertionError(said.text)


def _cookies(visitor: Visitor) -> dict[str, str]:
    kept = "; ".join(f"{cookie.name}={cookie.value}" for cookie in visitor.client.cookies.jar)
    return {"cookie": kept} if kept else {}


def push(visitor: Visitor, record: Record, name: str, **changes: Any) -> Answer:
    """Press the button with the values in the form."""
    visitor.client.headers.update(_cookies(visitor))
    visitor.call(visitor.function("record_updates"), [KEY, record.id])  # the record is opened: its arms can be chosen
    function = visitor.function("upload")
    values = {"take-what": "adapter", "take-arm": ARM, "take-name": name, **changes}
    told = [
        KEY if field.elem_id == OWNER_KEY else values.get(field.elem_id, field.usual if field.elem_id else record.id)
        for field in function.fields
    ]
    return visitor.call(function, told)


def test_an_arm_goes_privately_into_the_account_that_signed_in(
    space: Server, hub: Account, platform: type[_Provider], record: Record
) -> None:
    visitor = Visitor(space.address, KEY)
    refused = push(visitor, record, "not-yet")
    assert "Sign in first" in refused.text
    sign_in(visitor)
    assert platform.asked["scope"] == SCOPES
    said = push(visitor, record, "my-arm")
    assert f"{hub.address}/{OWNER}/my-arm" in str(said.outputs), said.text
    assert list(hub.made) == [f"{OWNER}/my-arm"]
    assert hub.made[f"{OWNER}/my-arm"]["visibility"] == "private"
    assert {"adapter_model.safetensors", "README.md"} <= set(hub.files[f"{OWNER}/my-arm"])
    stranger = Visitor(space.address, KEY)
    assert "Sign in first" in push(stranger, record, "not-mine").text  # what one has said holds for that one alone
    for one in (visitor, stranger):
        one.client.close()
    assert TOKEN not in space.printed() + space.logged()
    assert not list(Path(space.home).glob("arm-*"))
