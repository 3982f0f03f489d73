"""GET /v1/models and /v1/models/{name}: the names by which speech recognition can be asked for."""

import time

from litestar import get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from inference_service.engine import Engine
from inference_service.http.openai.answers import Model, ModelList
from inference_service.http.openai.names import OPENAI_NAMES, check_model
from inference_service.model_cards import ModelRole

#: OpenAI's field `owned_by` of every model.
OWNER = "gpu-inference-fleet"


def routes(engine: Engine) -> list[HTTPRouteHandler]:
    """Return the routes over `engine`."""
    own = engine.settings.ai.models.asr.model_name
    created = int(time.time())

    async def described(name: str) -> Model:
        told = await engine.offer.describe_model(ModelRole.ASR)
        return Model(name, created, "model", OWNER, told.kind, told.version, told.languages, told.licence)

    @get("/v1/models")
    async def model_list() -> ModelList:
        return ModelList([await described(name) for name in (own, *OPENAI_NAMES)])

    # A path: names of other services have a slash, and theirs is no other kind of 404.
    @get("/v1/models/{name:path}")
    async def model(name: FromPath[str]) -> Model:
        name = name.removeprefix("/")
        check_model(name, own)
        return await described(name)

    return [model_list, model]
