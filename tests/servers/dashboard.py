"""A server that speaks Ray's Jobs API and misbehaves on demand, which a real dashboard cannot be made to do."""

import asyncio
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import ray
from aiohttp import web

TAIL = "/api/jobs/{name}/logs/tail"


@dataclass
class Said:
    """What a connection to a log's tail does: it sends the log up to ``upto`` in pieces, and then ends as ``end`` says."""

    upto: int
    end: str = "close"
    """close: as if all were well; cut: without a word; silence: stays open; refuse: is never opened."""


@dataclass
class StandIn:
    """Jobs, logs and manners; ``status`` other than 200 is the answer to everything."""

    jobs: dict[str, dict] = field(default_factory=dict)
    log: str = ""
    tails: list[Said] = field(default_factory=list)
    status: int = 200
    log_status: int = 200
    page: str | None = None
    on_send: Callable[["StandIn", dict], None] = lambda self, request: None
    busy: int = 0
    """So many jobs are not taken, as by a cluster that has just come up."""
    asked: list[str] = field(default_factory=list)
    headers: list[dict] = field(default_factory=list)

    def add(self, name: str, state: str = "RUNNING", metadata: dict | None = None, **more) -> None:
        details = {"type": "SUBMISSION", "submission_id": name, "status": state, "entrypoint": "true"}
        self.jobs[name] = {**details, "metadata": metadata or {}, "start_time": 1_000_000, **more}

    def start(self, port: int = 0) -> str:
        self._loop, begun = asyncio.new_event_loop(), threading.Event()
        listening = socket.create_server(("127.0.0.1", port))
        self.port = listening.getsockname()[1]

        async def serve():
            app = web.Application(middlewares=[self._manners], client_max_size=100 * 2**20)  # as Ray's own
            app.router.add_get("/api/version", self._version)
            app.router.add_get("/api/jobs/", self._list)
            app.router.add_post("/api/jobs/", self._send)
            app.router.add_get("/api/jobs/{name}", self._show)
            app.router.add_delete("/api/jobs/{name}", self._forget)
            app.router.add_post("/api/jobs/{name}/stop", self._stop)
            app.router.add_get("/api/jobs/{name}/logs", self._logs)
            app.router.add_get(TAIL, self._tail)
            app.router.add_route("*", "/api/packages/{protocol}/{name}", self._package)
            self._runner = web.AppRunner(app, shutdown_timeout=0.1)
            await self._runner.setup()
            await web.SockSite(self._runner, listening).start()
            begun.set()

        def run():
            self._loop.run_until_complete(serve())
            self._loop.run_forever()

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        assert begun.wait(10)
        return f"http://127.0.0.1:{self.port}"

    def end(self) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    @web.middleware
    async def _manners(self, request, handler):
        self.asked.append(f"{request.method} {request.path}")
        self.headers.append(dict(request.headers))
        if self.status != 200:
            return web.Response(status=self.status, text="Traceback\n  somewhere\nTrouble: within")
        if self.page is not None:
            return web.Response(text=self.page, content_type="text/html")
        return await handler(request)

    async def _version(self, request):
        return web.json_response({"version": "1", "ray_version": ray.__version__, "ray_commit": "", "session_name": ""})

    async def _list(self, request):
        return web.json_response(list(self.jobs.values()))

    async def _send(self, request):
        if self.busy:
            self.busy -= 1
            return web.Response(status=500, text="No available agent")
        sent = await request.json()
        self.add(
            sent["submission_id"], "PENDING", sent["metadata"], runtime_env=sent["runtime_env"], entrypoint=sent["entrypoint"]
        )
        self.on_send(self, sent)
        return web.json_response({"job_id": sent["submission_id"], "submission_id": sent["submission_id"]})

    async def _show(self, request):
        job = self.jobs.get(request.match_info["name"])
        return web.json_response(job) if job else web.Response(status=404, text="does not exist")

    async def _forget(self, request):
        return web.json_response({"deleted": self.jobs.pop(request.match_info["name"], None) is not None})

    async def _stop(self, request):
        self.jobs[request.match_info["name"]]["status"] = "STOPPED"
        return web.json_response({"stopped": True})

    async def _logs(self, request):
        if self.log_status != 200:
            return web.Response(status=self.log_status, text="the node is gone")
        return web.json_response({"logs": self.log})

    async def _package(self, request):
        await request.read()
        return web.Response(status=404 if request.method == "GET" else 200)

    async def _tail(self, request):
        said = self.tails.pop(0) if self.tails else Said(len(self.log))
        if said.end == "refuse":
            return web.Response(status=502)
        answer = web.WebSocketResponse()
        await answer.prepare(request)
        for begin in range(0, said.upto, 7):
            await answer.send_str(self.log[begin : min(begin + 7, said.upto)])
        if said.end == "silence":
            await asyncio.sleep(3600)
        if said.end == "cut":
            await asyncio.sleep(0.2)
            request.transport.abort()
        return answer
