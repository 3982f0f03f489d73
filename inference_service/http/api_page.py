"""The routes of the API's description and of its page, which loads nothing from elsewhere."""

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import msgspec
from litestar import Request, Response, get
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from inference_service import pages
from inference_service.engine import Engine
from inference_service.http import elsewhere
from inference_service.http.analysis import BASE
from inference_service.http.envelope import PAGE_HEADERS
from inference_service.http.openapi import document

#: The viewer changes only with the service's version; a day later every browser has the new one.
_VIEWER = "openapi-explorer.min.js"
_VIEWER_HEADERS = {"cache-control": "public, max-age=86400", "x-content-type-options": "nosniff"}


def routes(engine: Engine) -> Sequence[HTTPRouteHandler]:
    """The description (/openapi.json) and its page (/docs), also under the base that gateways forward."""
    own = files("inference_service.http").joinpath("static/api")
    assets = pages.assets(own)

    @get(["/openapi.json", f"{BASE}/openapi.json"])
    async def description(request: Request[Any, Any, Any]) -> Response[bytes]:
        root = "../../.." if request.scope["path"].startswith(BASE) else "."
        at_gateway = elsewhere.location(request.scope) is not None
        described = document(engine.settings.ai.request, root, at_gateway=at_gateway)
        return Response(msgspec.json.encode(described), media_type="application/json", headers=PAGE_HEADERS)

    @get(["/docs", f"{BASE}/docs"])
    async def page(request: Request[Any, Any, Any]) -> Response[bytes]:
        if request.scope["raw_path"].endswith(b"/"):  # the page's relative addresses are those beside /docs
            return Response(b"", status_code=308, headers={"location": "../docs"})
        root = "../../../" if request.scope["path"].startswith(BASE) else "./"
        text = own.joinpath("docs.html").read_text(encoding="utf-8").replace("{root}", root)
        return Response(text.encode(), media_type="text/html", headers=pages.HEADERS)

    @get(["/docs/{name:str}", f"{BASE}/docs/{{name:str}}"])
    async def asset(name: FromPath[str]) -> Response[bytes]:
        if name not in assets:
            raise NotFoundException
        file, kind = assets[name]
        headers = _VIEWER_HEADERS if name == _VIEWER else pages.HEADERS
        return Response(file.read_bytes(), media_type=kind, headers=headers)

    return [description, page, asset]
