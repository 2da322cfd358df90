"""The chat service: one Litestar application. Its parts are made in `parts`, what runs beside them is in `watchers`.

Every request passes `guard` first: keys, limits, numbers, log. The routes are OpenAI's, a room for each resource in
`service.openai`, and the web pages.
"""

from importlib.metadata import version

from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin

from bakeoff.settings import Settings
from retrieval.embedder import Embedder
from service.described import describe_routes
from service.edge.guard import Guard
from service.failures import handle_exception
from service.generator import Generator
from service.health import check_live, check_ready
from service.job_routes import job_routes
from service.openai.chat.routes import create_chat_completion
from service.openai.chat.stored_routes import stored_chat_routes
from service.openai.completions.routes import create_completion
from service.openai.embeddings import create_embedding
from service.openai.files.routes import file_routes
from service.openai.fine_tuning.routes import fine_tuning_routes
from service.openai.models import delete_model, list_models, retrieve_model
from service.openai.responses.routes import response_routes
from service.openai.vector_stores.batch_routes import vector_store_batch_routes
from service.openai.vector_stores.file_routes import vector_store_file_routes
from service.openai.vector_stores.routes import vector_store_routes
from service.openai.vector_stores.search import search_vector_store
from service.parts import make_parts
from service.watchers import running
from service.web.pages import page_routes, page_template_config


def create_app(
    settings: Settings,
    *,
    generator: Generator | None = None,
    embedder: Embedder | None = None,
    lenient: bool = False,
    token: str = "",
) -> Litestar:
    """Build the application.

    Args:
        generator: what runs the model; the embedded engine by default.
        embedder: what searches; the configured one by default.
        lenient: accept parameters that cannot be heeded, and name them; for tests only, see `openai.unsupported`.
        token: opens the service beside its keys, for the process that started it.

    Raises:
        NotReady: a model is missing; names the command that gets it.
        BadInput: an alias of a model that cannot be read.
    """
    parts = make_parts(settings, generator, embedder)
    guard = Guard(settings, parts.database, parts.generator, parts.ledger, token)
    app = Litestar(
        # At once: handlers of one path that are registered one by one are wrapped for threads again each time.
        route_handlers=[
            Router(
                "/",
                route_handlers=describe_routes(
                    [
                        *guard.routes,
                        create_chat_completion,
                        *stored_chat_routes,
                        create_completion,
                        create_embedding,
                        *response_routes,
                        *fine_tuning_routes,
                        *job_routes,
                        *file_routes,
                        *vector_store_routes,
                        *vector_store_file_routes,
                        *vector_store_batch_routes,
                        search_vector_store,
                        list_models,
                        retrieve_model,
                        delete_model,
                        check_live,
                        check_ready,
                        *page_routes,
                    ]
                ),
            )
        ],
        dependencies={**parts.dependencies, **guard.dependencies},
        lifespan=[lambda app: running(app, parts)],
        state=State({"is_ready": False, "lenient": lenient}),
        exception_handlers={Exception: handle_exception},
        template_config=page_template_config,
        openapi_config=OpenAPIConfig(
            title="Bakeoff",
            version=version("bakeoff"),
            use_handler_docstrings=True,
            render_plugins=[JsonRenderPlugin()],
        ),
        logging_config=None,
        request_max_body_size=settings.max_body_mib * 2**20,
    )
    return guard.stand_before(app)
