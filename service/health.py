"""Health checks: is the process alive, can it answer."""

from typing import Literal

from litestar import Response, get
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.status_codes import HTTP_503_SERVICE_UNAVAILABLE
from msgspec import Struct

from service.answer import Answerer


class Health(Struct, frozen=True):
    """Answer of the health checks."""

    status: Literal["ok", "starting"]


@get("/health/live", operation_id="Live", tags=["health"])
async def check_live() -> Health:
    """Whether the process answers."""
    return Health("ok")


@get(
    "/health/ready",
    operation_id="Ready",
    tags=["health"],
    sync_to_thread=True,
    responses={
        HTTP_503_SERVICE_UNAVAILABLE: ResponseSpec(
            dict, generate_examples=False, description="It starts, or an error: the database does not answer"
        )
    },
)
def check_ready(answerer: NamedDependency[Answerer], state: State) -> Response[Health]:
    """Whether questions are answered: the engine runs and the database can be read."""
    answerer.list_models()
    if not state.is_ready:
        return Response(Health("starting"), status_code=HTTP_503_SERVICE_UNAVAILABLE)
    return Response(Health("ok"))
