"""The route `/draftwood` of vLLM's server: the figures as JSON.

vLLM loads plugins that add routes only where `VLLM_PLUGINS` names them: `VLLM_PLUGINS=draftwood`.
"""

from __future__ import annotations

from typing import Any

from draftwood.serving.housekeeping import read_figures


class DraftwoodRoute:
    """An endpoint plugin; loaded by the group `vllm.endpoint_plugins`."""

    name = "draftwood"
    required_tasks = ("generate",)

    def attach_router(self, app: Any) -> None:
        """Add the route to vLLM's FastAPI application."""

        def figures() -> dict[str, Any]:
            """What drafting brought, by data-parallel rank; empty until it is first published."""
            return {"engines": read_figures(app.state.draftwood_instance)}

        app.state.draftwood_instance = ""
        app.add_api_route("/draftwood", figures, methods=["GET"], tags=["draftwood"])

    async def init_state(self, engine_client: Any, state: Any, args: Any) -> None:
        """Learn which engine this server serves."""
        if engine_client is not None:
            state.draftwood_instance = engine_client.vllm_config.instance_id
