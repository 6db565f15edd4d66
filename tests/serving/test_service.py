"""The HTTP service in process: answers, refusals, batches, policies."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from distcond.errors import ConfigError
from distcond.models.dial import network_at
from distcond.operating_point import OperatingPoint
from distcond.results.store import read_rows
from distcond.runs.load_run import load
from distcond.serve import main
from distcond.serving import app as serving_app
from distcond.serving import local
from distcond.serving.app import MAX_BODY, Service, make_app
from distcond.serving.batcher import Batcher
from distcond.serving.local import known_hosts, server_of, service_of
from distcond.serving.policy import Measured, measured_positions, position_of
from distcond.serving.settings import ServeSettings, parse_settings

testclient = pytest.importorskip("fastapi.testclient")


@pytest.fixture(scope="module")
def float_run(small: Callable[..., Any], whole: Callable[..., Path]) -> Path:
    """A finished FLOAT run whose dial blends weights."""
    return whole(small("float", eval__dial="weights", eval__dial_grid="0,0.5,1"))


@pytest.fixture(scope="module")
def client(float_run: Path) -> Iterator[Any]:
    service = service_of(str(float_run), ServeSettings(device="cpu"))
    with testclient.TestClient(make_app(service)) as client:
        yield client


def images(count: int = 3, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def logits_of(answer: Any) -> Tensor:
    assert answer.status_code == 200, answer.text
    return torch.tensor([one["logits"] for one in answer.json()["predictions"]])


def close(found: Tensor, expected: Tensor) -> bool:
    return bool((found - expected).abs().max() <= 1e-5 * expected.abs().max().clamp(min=1))


def png(side: int = 8, mode: str = "RGB", kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    pixels = np.arange(side * side * 3, dtype=np.uint8).reshape(side, side, 3)
    Image.fromarray(pixels).convert(mode).save(file, kind)
    return file.getvalue()


def at(run: Path, t: float, x: Tensor) -> Tensor:
    logits: Tensor = network_at(load(run), OperatingPoint(1.0, "weights", t))(x)
    return logits.detach()


def test_answer_is_that_of_the_offline_network(client: Any, float_run: Path) -> None:
    found = client.post("/predict", json={"images": images().tolist(), "dial": 0.3})
    assert close(logits_of(found), at(float_run, 0.3, images()))


def test_rows_may_be_at_different_positions(client: Any, float_run: Path) -> None:
    found = client.post("/predict", json={"images": images().tolist(), "dial": [0, 0.5, 1]})
    expected = torch.cat([at(float_run, t, images()[row : row + 1]) for row, t in enumerate((0, 0.5, 1))])
    assert close(logits_of(found), expected)
    assert [one["dial"] for one in found.json()["predictions"]] == [0, 0.5, 1]


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_encoded_images_are_pixels_of_them(client: Any, float_run: Path, mode: str) -> None:
    found = client.post("/predict?dial=1", content=png(mode=mode), headers={"content-type": "image/png"})
    with Image.open(io.BytesIO(png(mode=mode))) as opened:
        x = torch.from_numpy(np.asarray(opened.convert("RGB")).copy()).permute(2, 0, 1)[None].float() / 255
    assert close(logits_of(found), at(float_run, 1.0, x))


def test_many_clients_get_their_own_answers(client: Any, float_run: Path) -> None:
    """Requests at mixed positions are answered in common passes, each with what it asked for."""

    def ask(number: int) -> tuple[int, Tensor]:
        body = {"images": images(1, number).tolist(), "dial": number % 5 / 4}
        return number, logits_of(client.post("/predict", json=body))

    with ThreadPoolExecutor(8) as pool:
        answers = dict(pool.map(ask, range(60)))
    for number, found in answers.items():
        assert close(found, at(float_run, number % 5 / 4, images(1, number))), number
    text = client.get("/metrics").text
    assert 'distcond_requests_total{status="200"}' in text and "distcond_batch_images_bucket" in text


def test_policy_chooses_a_measured_position(client: Any) -> None:
    for policy, place in (("accurate", 0), ("robust", 1)):
        found = client.post("/predict", json={"images": images(1).tolist(), "policy": policy}).json()
        assert found["predictions"][0]["dial"] == place
    measured = client.get("/info").json()["measured"]
    assert [point["position"] for point in measured] == [0, 0.5, 1]


POINTS = [Measured(0.0, 0.98, 0.1), Measured(0.5, 0.96, 0.5), Measured(1.0, 0.9, 0.54)]


@pytest.mark.parametrize(
    ("policy", "place"),
    [("accurate", 0), ("robust", 1), ("balanced", 0.5), ("ra>=0.2", 0.5), ("ra>=52%", 1), ("sa >= 0.95", 0.5)],
)
def test_policy_means_a_position(policy: str, place: float) -> None:
    assert position_of(policy, POINTS) == place


def test_rows_of_other_networks_are_not_measured(float_run: Path) -> None:
    rows = read_rows(float_run)
    epoch = next(row.epoch for row in rows if row.checkpoint == "best" and row.split == "test")
    place: Any = ("weights", 1.0, 1.0, "best", epoch)
    found = measured_positions(rows, *place)
    others = [replace(row, epoch=epoch + 1, num_correct=0) for row in rows]
    others += [replace(row, noise_mode="fixed", noise_seed=7, num_correct=0) for row in rows]
    others += [replace(row, noise_mode="fresh", noise_seed=0, num_correct=0) for row in rows]
    assert len(found[0]) == 3 and measured_positions([*rows, *others], *place) == found


@pytest.mark.parametrize("policy", ["best", "ra>=0.9", "ra>0.2", ""])
def test_policy_that_cannot_be_met_is_refused(policy: str) -> None:
    with pytest.raises(ConfigError, match="policy="):
        position_of(policy, POINTS)


GOOD = {"images": images(2).tolist(), "dial": 0.5}
JSON = "application/json"


@pytest.mark.parametrize(
    ("body", "kind", "query", "status", "named"),
    [
        (b"", "", "", 415, "content-type"),
        (b"x", "text/plain", "", 415, "text/plain"),
        (b"x", "image/png", "?dial=0.5", 422, "image"),
        (png()[:40], "image/png", "?dial=0.5", 422, "image"),
        (png(kind="JPEG"), "image/png", "?dial=0.5", 422, "PNG"),
        (png(side=9), "image/png", "?dial=0.5", 422, "8 x 8"),
        (png(), "image/png", "", 422, "dial"),
        (png(), "image/png", "?dial=1.5", 422, "dial"),
        (png(), "image/png", "?dial=0.5&policy=robust", 422, "policy"),
        (png(), "image/png", "?policy=best", 422, "policy"),
        (b"{", JSON, "", 422, "JSON"),
        (b"[" * 100000, JSON, "", 422, "JSON"),
        (b"[]", JSON, "", 422, "images"),
        ({**GOOD, "dial": "x"}, JSON, "", 422, "dial"),
        ({**GOOD, "dial": [0.5]}, JSON, "", 422, "1 positions"),
        ({**GOOD, "dial": True}, JSON, "", 422, "dial"),
        ({**GOOD, "lam": 1}, JSON, "", 422, "lam"),
        ({**GOOD, "images": []}, JSON, "", 422, "shape"),
        ({**GOOD, "images": [[[[2.0] * 8] * 8] * 3]}, JSON, "", 422, "[0, 1]"),
        (b'{"images": [[[[NaN]]]], "dial": 0}', JSON, "", 422, "shape"),
        ({**GOOD, "images": "x"}, JSON, "", 422, "images"),
        (b"0" * (MAX_BODY + 1), JSON, "", 413, "bytes"),
        (png() + b"0" * 2**21, "image/png", "?dial=0.5", 413, "bytes"),
        (png(), "image/png", "?dial=x", 422, "dial=x"),
        (png(), "image/png", "?dial=nan", 422, "dial"),
        ({**GOOD, "images": [[[[10**400] * 8] * 8] * 3]}, JSON, "", 422, "images"),
        (b'{"images": [[[[1e999]]]], "dial": 0}', JSON, "", 422, "shape"),
        ({**GOOD, "images": [[[["0.5"] * 8] * 8] * 3]}, JSON, "", 422, "images"),
        ({**GOOD, "images": [[[[True] * 8] * 8] * 3]}, JSON, "", 422, "images"),
        ({**GOOD, "images": [[[[None] * 8] * 8] * 3]}, JSON, "", 422, "images"),
        ({**GOOD, "dial": "a\nb"}, JSON, "", 422, "dial"),
        ({**GOOD, "dial": "x" * 100000}, JSON, "", 422, "dial"),
        (b'{"images": [], "\\ud800": 1}', JSON, "", 422, "unknown"),
        (json.dumps({"images": images(1).tolist(), "policy": "\ud800"}).encode(), JSON, "", 422, "policy"),
    ],
)
def test_bad_requests_get_one_line(client: Any, body: Any, kind: str, query: str, status: int, named: str) -> None:
    headers = {"content-type": kind} if kind else {}
    sent = {"content": body} if isinstance(body, bytes) else {"json": body}
    answer = client.post(f"/predict{query}", headers=headers, **sent)
    assert answer.status_code == status, answer.text
    assert named in answer.json()["error"] and answer.json()["error"].isprintable()
    assert len(answer.json()["error"]) <= 300
    assert client.get("/health").json()["status"] == "ok"


def test_too_many_waiting_images_are_turned_away(float_run: Path) -> None:
    service = service_of(str(float_run), ServeSettings(device="cpu", examples=0))
    started, go_on = threading.Event(), threading.Event()

    def wait(module: Any, args: Any) -> None:
        started.set()
        go_on.wait(60)

    service.network.register_forward_pre_hook(wait)
    with testclient.TestClient(make_app(service, max_batch=1, max_queue=1)) as client, ThreadPoolExecutor(1) as pool:
        body = {"images": images(1).tolist(), "dial": 0.5}
        first = pool.submit(client.post, "/predict", json=body)
        assert started.wait(60)
        busy = client.post("/predict", json=body)
        go_on.set()
        assert first.result(60).status_code == 200
    assert busy.status_code == 503 and busy.headers["retry-after"]


def test_one_path_takes_no_position(small: Any, whole: Any) -> None:
    run = whole(small("pgd_at"))
    service = service_of(str(run), ServeSettings(device="cpu"))
    with testclient.TestClient(make_app(service)) as client:
        found = client.post("/predict", json={"images": images().tolist()})
        assert close(logits_of(found), network_at(load(run), 1.0)(images()).detach())
        assert client.post("/predict", json={"images": images().tolist(), "dial": 0.5}).status_code == 422


def test_schema_names_both_kinds_of_body(client: Any) -> None:
    content = client.get("/openapi.json").json()["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert set(content) == {"image/png", "image/jpeg", "image/webp", "application/json"}


class Plain(nn.Module):
    """A network that answers as `logits` says, with its weight on a device."""

    def __init__(self, logits: Callable[[Tensor], Tensor], device: str = "cpu") -> None:
        super().__init__()
        self.weight, self.logits = nn.Parameter(torch.zeros(1, device=device)), logits

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x)


def fail(x: Tensor) -> Tensor:
    raise RuntimeError("out of memory\nin many lines")


@pytest.mark.parametrize("logits", [fail, lambda x: torch.full((len(x), 2), torch.nan)])
def test_failing_network_is_one_line(logits: Callable[[Tensor], Tensor]) -> None:
    app = make_app(Service("run", Plain(logits), 8))
    with testclient.TestClient(app, raise_server_exceptions=False) as client:
        answer = client.post("/predict", json={"images": images(1).tolist()})
        assert answer.status_code == 500 and answer.json()["error"].isprintable()
        assert 'distcond_requests_total{status="500"} 1.0' in client.get("/metrics").text


def test_request_larger_than_the_queue_is_refused() -> None:
    app = make_app(Service("run", Plain(fail), 8), max_queue=2)
    with testclient.TestClient(app) as client:
        assert client.post("/predict", json={"images": images(3).tolist()}).status_code == 422


def test_images_go_to_the_networks_device() -> None:
    devices = []

    def logits(x: Tensor) -> Tensor:
        devices.append(x.device.type)
        return torch.zeros(len(x), 2)

    Batcher(Plain(logits, "meta"))._predict(images(1), torch.zeros(1))
    assert devices == ["meta"]


def batches_of(work: Callable[[Batcher], Any], **numbers: Any) -> list[int]:
    """The images of each pass of a batcher while `work` runs; the first pass waits until `work` releases it."""
    counts: list[int] = []
    go_on = threading.Event()

    def logits(x: Tensor) -> Tensor:
        go_on.wait(60)
        counts.append(len(x))
        return torch.zeros(len(x), 2)

    async def run() -> None:
        batcher = Batcher(Plain(logits), **numbers)
        batcher.go_on = go_on  # type: ignore[attr-defined]
        batcher.start()
        try:
            await asyncio.wait_for(work(batcher), 60)
        finally:
            go_on.set()
            await batcher.stop()

    asyncio.run(run())
    return counts


def ask(batcher: Batcher, count: int = 1) -> asyncio.Task[Tensor]:
    return asyncio.create_task(batcher.answer(images(count), torch.zeros(count)))


def test_cancelled_requests_are_not_computed() -> None:
    async def work(batcher: Any) -> None:
        first = ask(batcher)
        await asyncio.sleep(0.1)
        gone = [ask(batcher, 2) for _ in range(5)]
        last = ask(batcher, 3)
        await asyncio.sleep(0)
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        batcher.go_on.set()
        assert len(await first) == 1 and len(await last) == 3
        assert batcher._waiting == 0

    assert batches_of(work, max_wait=0.001) == [1, 3]


def test_what_waits_is_batched_without_waiting() -> None:
    async def work(batcher: Any) -> None:
        first = ask(batcher)
        await asyncio.sleep(0.1)
        others = [ask(batcher) for _ in range(5)]
        await asyncio.sleep(0)
        batcher.go_on.set()
        await asyncio.gather(first, *others)

    assert batches_of(work, max_wait=0) == [1, 5]


def test_stopping_cancels_every_request() -> None:
    async def work(batcher: Any) -> None:
        running = ask(batcher)
        await asyncio.sleep(0.1)
        waiting = ask(batcher)
        await asyncio.sleep(0)
        await batcher.stop()
        done, pending = await asyncio.wait([running, waiting], timeout=10)
        assert not pending and all(task.cancelled() for task in done)

    batches_of(work)


async def call(app: Any, *messages: dict[str, Any]) -> list[dict[str, Any]]:
    """What the application sends for a request whose body comes in these messages, and then nothing."""
    sent, left = [], list(messages)

    async def receive() -> dict[str, Any]:
        return left.pop(0) if left else await asyncio.sleep(60, {})

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"host", b"localhost")]
    scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"", "headers": headers}
    await app(scope, receive, send)
    return sent


def test_client_that_leaves_is_no_error() -> None:
    app = make_app(Service("run", Plain(fail), 8))
    part = {"type": "http.request", "body": b"{", "more_body": True}
    sent = asyncio.run(call(app, part, {"type": "http.disconnect"}))
    assert all(message.get("status") in (None, 499) for message in sent)


def test_slow_body_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_app, "BODY_SECONDS", 0.1, raising=False)
    app = make_app(Service("run", Plain(fail), 8))
    sent = asyncio.run(asyncio.wait_for(call(app, {"type": "http.request", "body": b"{", "more_body": True}), 20))
    assert sent[0]["status"] == 408


def test_slow_client_does_not_hold_the_service_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "STOP_SECONDS", 1)
    server = server_of(make_app(Service("run", Plain(fail), 8)))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        with socket.create_connection(listener.getsockname()[:2], timeout=60) as client:
            head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 100\r\n"
            client.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
            assert b"100 Continue" in client.recv(100)
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *((host, 200) for host in ("localhost:8000", "127.0.0.1", "[::1]:80", "me.example", "LOCALHOST")),
        *((host, 421) for host in ("evil.example", "127.0.0.1.evil.example:8000", "", "[x")),
    ],
)
def test_names_of_other_sites_are_refused(host: str, status: int) -> None:
    hosts = known_hosts(ServeSettings(hosts=("me.example",)))
    with testclient.TestClient(make_app(Service("run", Plain(fail), 8), hosts=hosts)) as client:
        for path in ("/info", "/", "/health"):
            assert client.get(path, headers={"host": host}).status_code == status


@pytest.mark.parametrize(("host", "alone"), [("127.0.0.2", True), ("::1", True), ("0.0.0.0", False), ("web", False)])
def test_service_for_others_answers_any_name(host: str, alone: bool) -> None:
    assert bool(known_hosts(ServeSettings(host=host))) == alone


@pytest.mark.parametrize("word", ["prot=1", "port=x", "port=70000", "device=tpu", "lam=2", "examples=-1", "launch=k8s"])
def test_bad_settings_are_refused_by_name(word: str) -> None:
    with pytest.raises(ConfigError, match=word.partition("=")[0]):
        parse_settings([word])


def test_missing_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run"):
        main([str(tmp_path), "port=0"])
