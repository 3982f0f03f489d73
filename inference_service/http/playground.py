"""The playground: the page `/demo`, which tries the models with a browser's microphone or a recording."""

from importlib.resources import files
from typing import Any

from litestar import Request, Response, get
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from inference_service import pages
from inference_service.engine import Engine


def routes(_: Engine) -> list[HTTPRouteHandler]:
    """The page and its files. Its addresses are relative, so it works under any path of another proxy."""
    own = files("inference_service.http").joinpath("static/playground")
    assets = pages.assets(own)

    @get("/demo", sync_to_thread=False)
    def page(request: Request[Any, Any, Any]) -> Response[bytes]:
        if request.scope["raw_path"].endswith(b"/"):  # the page's relative addresses are those beside /demo
            return Response(b"", status_code=308, headers={"location": "../demo"})
        text = own.joinpath("playground.html").read_bytes()
        return Response(text, media_type="text/html", headers=pages.HEADERS)

    @get("/demo/{name:str}", sync_to_thread=False)
    def asset(name: FromPath[str]) -> Response[bytes]:
        if name not in assets:
            raise NotFoundException
        file, kind = assets[name]
        return Response(file.read_bytes(), media_type=kind, headers=pages.HEADERS)

    return [page, asset]
