"""A program that stands in for `hale serve`: the API's answers for one deployment, and nothing that runs.

The environment says how it behaves: FAKE_REFUSES (it doesn't start), FAKE_STUBBORN (its replicas don't end),
FAKE_NO (it refuses every spec), FAKE_PULLS (it pulls an image for ever),
FAKE_WAITS (it doesn't answer before that file is there).
"""

import json
import os
import sys
import threading
import time
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cli import examples as e
from cli.scripted import TOKEN, Handler, Script


def main(data: Path) -> None:
    if os.environ.get("FAKE_REFUSES"):
        sys.exit("INFO hello\nerror: cannot listen on 127.0.0.1:1: permission denied\nhint: another port")
    while "FAKE_WAITS" in os.environ and not Path(os.environ["FAKE_WAITS"]).exists():
        time.sleep(0.01)
    script, down = Script(), threading.Event()
    wanted = {"enabled": True}
    script.on("GET", "/health", "HEALTHY")
    script.on("GET", "/server", {"version": "0", "pid": os.getpid(), "data": str(data)})
    script.page("/projects", {"id": "default", "name": "default"})
    script.page("/projects/default/deployments")
    script.page("/deployments", e.deployment())
    script.on("POST", "/deployments", (400, {"code": "BAD_REQUEST", "message": "cannot apply web: no"}))
    if not os.environ.get("FAKE_NO"):
        script.on("POST", "/deployments", {"deploymentId": e.WEB})

    def change(_: dict[str, str]) -> Any:
        wanted.update(script.bodies("PATCH", f"/deployments/{e.WEB}")[-1])
        return {"deploymentId": e.WEB, "revision": 4, "id": "s4"}

    def health(_: dict[str, str]) -> Any:
        if os.environ.get("FAKE_PULLS"):
            return e.health(preparation=e.preparation() if wanted["enabled"] else None)
        run = wanted["enabled"] or os.environ.get("FAKE_STUBBORN")
        return e.health(*([e.ready_replica()] if run else []))

    def end(_: dict[str, str]) -> Any:
        threading.Timer(0.1, down.set).start()  # answered first, as the real one does
        return {"accepted": True}

    pulling = {"dtHealthy": None, "externalApplied": None} if os.environ.get("FAKE_PULLS") else {}
    event = e.event(7, 1, "ready, gets traffic")
    script.on("GET", f"/deployments/{e.WEB}/events", f"id: 7\ndata: {json.dumps(event)}\n\n".encode())
    script.on("GET", f"/deployments/{e.WEB}", e.deployment(spec=pulling))
    script.on("GET", f"/deployments/{e.WEB}/health", health)
    script.on("PATCH", f"/deployments/{e.WEB}", change)
    script.on("POST", "/down", end)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"script": script}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    (data / "token").write_text(TOKEN)
    (data / "api").write_text(f"127.0.0.1:{server.server_port}\n")
    down.wait()
    (data / "api").unlink()
    asked = [(method, path, body) for method, path, _, body in script.asked if method != "GET"]
    (data / "asked").write_text(json.dumps(asked))


if __name__ == "__main__":
    main(Path(sys.argv[sys.argv.index("--data") + 1]))
