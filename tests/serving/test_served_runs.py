"""The service as a process: load from another process, a killed replica of Ray Serve, and the page in a browser."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from distcond.models.dial import network_at
from distcond.operating_point import OperatingPoint
from distcond.runs.load_run import load
from support.leftovers import processes_with
from support.processes import Process, run, start
from support.waiting import wait_until

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")
from distcond.serving.app import Service, make_app  # noqa: E402
from distcond.serving.local import server_of  # noqa: E402

pytestmark = pytest.mark.cluster

#: Sends requests at mixed positions from eight threads; prints status and logits of each.
LOAD = """
import json, sys, torch, httpx
from concurrent.futures import ThreadPoolExecutor
url, count = sys.argv[1], int(sys.argv[2])
x = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
client = httpx.Client(limits=httpx.Limits(max_connections=8), timeout=60)
def ask(row):
    answer = client.post(url + "/predict", json={"images": x[row:row + 1].tolist(), "dial": row % 11 / 10})
    return answer.status_code, answer.json()["predictions"][0]["logits"]
with ThreadPoolExecutor(8) as pool:
    print(json.dumps(list(pool.map(ask, range(count)))))
"""


@pytest.fixture(scope="module")
def float_run(small: Callable[..., Any], whole: Callable[..., Path]) -> Path:
    """A finished FLOAT run whose dial blends weights."""
    return whole(small("float", eval__dial="weights", eval__dial_grid="0,0.5,1"))


@contextmanager
def served(run: Path, *words: str) -> Iterator[tuple[str, Process]]:
    """The service of a run as a process: its address and the process."""
    with start([sys.executable, "-m", "distcond.serve", str(run), "device=cpu", "port=0", *words]) as process:
        wait_until(lambda: "serving " in process.output, "the address", process=process)
        found = re.search(r"on (http://\S+)", process.output)
        assert found, process.output
        yield found[1], process


def test_every_request_under_load_is_answered_rightly(float_run: Path) -> None:
    count = 1000
    with served(float_run) as (url, _):
        done = run([sys.executable, "-c", LOAD, url, str(count)])
        assert done.status == 0, done.output
        assert httpx.get(url + "/health").json()["status"] == "ok"
    answers = json.loads(done.output)
    assert [status for status, _ in answers] == [200] * count
    x, model = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0)), load(float_run)
    for tenth in range(11):
        rows = list(range(tenth, count, 11))
        expected = network_at(model, OperatingPoint(1.0, "weights", tenth / 10))(x[rows])
        found = torch.tensor([answers[row][1] for row in rows])
        assert (found - expected).abs().max() <= 1e-5 * expected.abs().max().clamp(min=1)


def test_taken_port_is_refused(float_run: Path) -> None:
    with served(float_run) as (url, _):
        port = url.rpartition(":")[2]
        done = run([sys.executable, "-m", "distcond.serve", str(float_run), f"port={port}"])
    assert done.status == 2 and f"port={port}" in done.output


@pytest.mark.ray
def test_killed_replica_comes_back(float_run: Path) -> None:
    pytest.importorskip("ray.serve")
    with served(float_run, "launch=ray") as (url, process):
        body = {"images": torch.rand(1, 3, 8, 8).tolist(), "dial": 0.5}
        assert answers(url, body)
        (replica,) = replicas(process)
        os.kill(replica, signal.SIGKILL)
        wait_until(lambda: replicas(process) - {replica} and answers(url, body), "another replica", process=process)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 128 + signal.SIGTERM
        assert not replicas(process)


#: Serves a run on a cluster where somebody else serves; prints the refusal and what the other then answers.
BESIDE_ANOTHER = """
import sys
from ray import serve
from distcond.errors import ConfigError
from distcond.launch.ray.cluster import ray_cluster
from distcond.launch.ray.serve import serve_on_ray
from distcond.serving.settings import ServeSettings

@serve.deployment
class Another:
    def __call__(self):
        return "still there"

with ray_cluster():
    handle = serve.run(Another.bind(), name="another", route_prefix="/")
    try:
        serve_on_ray(sys.argv[1], ServeSettings(port=0, device="cpu", launch="ray"))
    except ConfigError as error:
        print("refused:", error)
    print(handle.remote().result())
    serve.shutdown()
"""


@pytest.mark.ray
def test_other_applications_of_a_cluster_stay(float_run: Path) -> None:
    pytest.importorskip("ray.serve")
    done = run([sys.executable, "-c", BESIDE_ANOTHER, str(float_run)], limit=120)
    assert "refused: launch=ray" in done.output and "still there" in done.output, done.output


def replicas(process: Process) -> set[int]:
    """Processes of a service's replicas."""
    return {one for one, name in processes_with(process.variable).items() if name.startswith("ray::ServeRepl")}


def answers(url: str, body: dict[str, Any]) -> bool:
    try:
        return bool(httpx.post(url + "/predict", json=body, timeout=10).status_code == 200)
    except httpx.HTTPError:
        return False


#: What a visitor would do and see, put behind the page's own script.
WATCH = """
<script>
addEventListener("load", async () => {
  const pause = () => new Promise((done) => setTimeout(done, 400)), seen = [];
  const dial = document.getElementById("dial");
  for (let tries = 0; tries < 50 && !document.querySelector("figure span")?.textContent; tries += 1) await pause();
  for (const value of ["0", "1"]) {
    dial.value = value;
    dial.dispatchEvent(new Event("input"));
    await pause();
    seen.push([document.getElementById("position").textContent, document.getElementById("measured").textContent,
      [...document.querySelectorAll("figure")].map((one) => one.querySelectorAll("span")[1].textContent),
      document.getElementById("error").textContent]);
  }
  const said = document.createElement("pre");
  said.id = "said";
  said.textContent = JSON.stringify(seen);
  document.body.append(said);
});
</script>
"""


@contextmanager
def watched(url: str) -> Iterator[str]:
    """The service's page with a script behind it that uses it: served from another port, all else handed on."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.hand_on(b"")

        def do_POST(self) -> None:
            self.hand_on(self.rfile.read(int(self.headers["content-length"])))

        def hand_on(self, body: bytes) -> None:
            kind = self.headers.get("content-type", "")
            answer = httpx.request(self.command, url + self.path, content=body, headers={"content-type": kind})
            content = answer.content + (WATCH.encode() if self.path == "/" else b"")
            self.send_response(answer.status_code)
            for name in ("content-type", "content-security-policy"):
                if name in answer.headers:
                    self.send_header(name, answer.headers[name])
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def seen_in_browser(page: str, folder: Path) -> str:
    """The page's elements after its scripts have run."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no browser: apt-get install --no-install-recommends chromium")
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=60000", "--dump-dom", page,
    ]  # fmt: skip
    return run(command).output


def test_page_shows_answers_for_large_images(tmp_path: Path) -> None:
    class Second(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tensor([[0.0, 9.0]]).expand(len(x), 2)

    examples = torch.rand(16, 3, 224, 224), [1] * 16
    server = server_of(make_app(Service("run", Second(), 224, ("no", "yes"), examples=examples)))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            found = seen_in_browser(f"http://127.0.0.1:{listener.getsockname()[1]}/", tmp_path)
        finally:
            server.should_exit = True
            thread.join()
    assert found.count("<span>yes</span>") == 16, found[-2000:]


def test_slider_moves_every_answer(float_run: Path, tmp_path: Path) -> None:
    with served(float_run, "examples=4") as (url, _), watched(url) as page:
        output = seen_in_browser(page, tmp_path)
    found = re.search(r'<pre id="said">(.*?)</pre>', output, re.DOTALL)
    assert found, output[-2000:]
    clean, robust = json.loads(html.unescape(found[1]))
    assert (clean[0], robust[0]) == ("0.00", "1.00") and clean[3] == robust[3] == ""
    assert "SA" in clean[1] and clean[1] != robust[1]
    assert len(clean[2]) == 4 and clean[2] != robust[2]
