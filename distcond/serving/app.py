"""The HTTP application: predictions at a position of the dial, health, metrics, and a page with a slider."""

from __future__ import annotations

import asyncio
import base64
import io
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

import torch
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send
from torch import Tensor, nn

from distcond.errors import ConfigError
from distcond.models.dial_network import DialNetwork
from distcond.serving.batcher import Batcher, Overloaded
from distcond.serving.images import IMAGE_TYPES, decode_image, decode_json, largest_file, read_positions
from distcond.serving.policy import Measured, position_of

#: Bytes of a request's body.
MAX_BODY = 16 * 2**20
#: Seconds in which a body must have come.
BODY_SECONDS = 60.0
#: Characters of a refusal: what a client sent may be part of it.
MAX_REASON = 300

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Service:
    """What is served.

    Attributes:
        name: of the run.
        network: a `DialNetwork`, or a network that stands at one position.
        image_size: side of the images in pixels.
        classes: names in the order of the logits; empty where unknown.
        measured: SA and RA along the dial, for policies and the page.
        examples: test images (n, 3, H, W) in [0, 1] for the page, with their labels.
        threat: what RA was measured under, for the page.
    """

    name: str
    network: nn.Module
    image_size: int
    classes: tuple[str, ...] = ()
    measured: tuple[Measured, ...] = ()
    examples: tuple[Tensor, Sequence[int]] = field(default_factory=lambda: (torch.empty(0), ()))
    threat: str = ""

    @property
    def has_dial(self) -> bool:
        """Whether requests choose a position."""
        return isinstance(self.network, DialNetwork)


class _Refused(Exception):
    """A request that is answered with a status and one line."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class _Metrics:
    """Counters of one application, in Prometheus' text format."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("distcond_requests", "requests by status", ["status"], registry=self.registry)
        self.seconds = Histogram("distcond_request_seconds", "time of a prediction", registry=self.registry)
        sizes = [2.0**power for power in range(9)]
        self.batches = Histogram("distcond_batch_images", "images in a pass", buckets=sizes, registry=self.registry)


def make_app(
    service: Service, max_batch: int = 64, max_wait: float = 0.003, max_queue: int = 1024, hosts: Sequence[str] = ()
) -> FastAPI:
    """The application; see `Batcher` for the numbers and `known_hosts` for `hosts`."""
    metrics, about = _Metrics(), _info(service)
    batcher = Batcher(service.network, max_batch, max_wait, max_queue, metrics.batches.observe)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        batcher.start()
        yield
        await batcher.stop()

    app = FastAPI(title=f"distcond: {service.name}", lifespan=lifespan, docs_url=None, redoc_url=None)

    @app.post("/predict", openapi_extra=_body_schema(service), summary="Classes of one image or of several")
    async def predict(request: Request, dial: float | None = None, policy: str | None = None) -> Response:
        """`dial` in [0, 1]: 0 = most accurate, 1 = most robust; or a policy: accurate, balanced, robust, ra>=0.4."""
        began = time.perf_counter()
        try:
            images, positions = await _read(request, service, dial, policy)
            logits = await batcher.answer(images, positions)
            answer: Response = JSONResponse(_answers(service, logits, positions))
        except ClientDisconnect:
            answer = Response(status_code=499)  # nobody reads it
        except Exception as error:
            answer = _refusal(error)
        metrics.requests.labels(str(answer.status_code)).inc()
        metrics.seconds.observe(time.perf_counter() - began)
        return answer

    @app.exception_handler(RequestValidationError)
    async def refuse(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        answer = _refusal(ConfigError(f"{first['loc'][-1]}={first.get('input')}: {first['msg']}"))
        metrics.requests.labels(str(answer.status_code)).inc()
        return answer

    @app.get("/health", summary="Whether the service answers")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "run": service.name, "dial": service.has_dial, "image_size": service.image_size}

    @app.get("/metrics", summary="Counters for Prometheus")
    async def counters() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/info", summary="Classes, measured positions and example images")
    async def info() -> dict[str, Any]:
        return about

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> HTMLResponse:
        text = resources.files("distcond.serving").joinpath("page.html").read_text(encoding="utf-8")
        return HTMLResponse(text, headers={"Content-Security-Policy": _POLICY})

    if hosts:
        app.add_middleware(_KnownHosts, hosts=hosts)
    return app


def _refusal(error: Exception) -> JSONResponse:
    """The answer to a request that failed: a status and one line."""
    if isinstance(error, Overloaded):
        return JSONResponse({"error": str(error)}, 503, {"Retry-After": "1"})
    if isinstance(error, _Refused | ConfigError):
        return JSONResponse({"error": _one_line(str(error))}, getattr(error, "status", 422))
    _log.error("a request failed", exc_info=error)
    return JSONResponse({"error": f"internal error ({type(error).__name__}); see the log of the service"}, 500)


def _one_line(text: str) -> str:
    """Text that may quote a client, printable and short."""
    short = text if len(text) <= MAX_REASON else f"{text[: MAX_REASON - 3]}..."
    return "".join(letter if letter.isprintable() else "?" for letter in short)


class _KnownHosts:
    """Refuses requests that name another host.

    A page of another site can point its own name at this machine (DNS rebinding) and would then be of the same origin.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        self.app, self.hosts = app, {host.lower().strip("[]") for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        named = Headers(scope=scope).get("host", "") if scope["type"] == "http" else ""
        if scope["type"] != "http" or _name_in(named) in self.hosts:
            return await self.app(scope, receive, send)
        refusal = _refusal(_Refused(421, f"host {named or 'missing'}: valid: {', '.join(sorted(self.hosts))} (hosts=)"))
        return await refusal(scope, receive, send)


def _name_in(host: str) -> str:
    """The name in a Host header, without the port; "" if there is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'"


async def _read(request: Request, service: Service, dial: float | None, policy: str | None) -> tuple[Tensor, Tensor]:
    """Images and positions of a request.

    Raises:
        _Refused: another content type, or too large a body.
        ConfigError: a value that cannot be used.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in (*IMAGE_TYPES, "application/json"):
        raise _Refused(415, f"content-type {kind or 'missing'}: valid: {', '.join(IMAGE_TYPES)}, application/json")
    body = await _body_of(request)
    if kind == "application/json":
        images, values = decode_json(body, service.image_size)
        place, policy = values.get("dial", dial), values.get("policy", policy)
    else:
        limit = largest_file(service.image_size)
        if len(body) > limit:  # a small image in many progressive scans takes seconds
            raise _Refused(413, f"image: {len(body)} bytes; at most {limit} for {service.image_size} pixels a side")
        images, place = decode_image(body, kind, service.image_size), dial
    return images, _positions(service, place, policy, len(images))


def _positions(service: Service, place: Any, policy: Any, count: int) -> Tensor:
    if not service.has_dial:
        if place is not None or policy is not None:
            raise ConfigError("dial: this network stands at one operating point; leave dial and policy out")
        return torch.zeros(count)
    if (place is None) == (policy is None):
        raise ConfigError("needed: either dial, a number in [0, 1], or policy: accurate, balanced, robust, ra>=0.4")
    if policy is not None:
        place = position_of(str(policy), service.measured)
    return read_positions(place, count)


async def _body_of(request: Request) -> bytes:
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and (len(declared) > 18 or int(declared) > MAX_BODY):
        raise _Refused(413, f"body: {declared} bytes; at most {MAX_BODY}")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > MAX_BODY:
                    raise _Refused(413, f"body: more than {MAX_BODY} bytes")
    except TimeoutError:
        raise _Refused(408, f"body: not complete after {BODY_SECONDS:g} s") from None
    return bytes(body)


def _answers(service: Service, logits: Tensor, positions: Tensor) -> dict[str, Any]:
    """One prediction per image.

    Raises:
        FloatingPointError: the network's logits are not numbers.
    """
    if not logits.isfinite().all():
        raise FloatingPointError("logits are not finite")
    found = []
    for row, probabilities, place in zip(logits, logits.softmax(1), positions, strict=True):
        index = int(row.argmax())
        answer = {"class": index, "probability": float(probabilities[index]), "logits": row.tolist()}
        if service.classes:
            answer["name"] = service.classes[index]
        found.append({**answer, "dial": round(float(place), 6)} if service.has_dial else answer)
    return {"predictions": found}


def _info(service: Service) -> dict[str, Any]:
    images, labels = service.examples
    return {
        "run": service.name,
        "dial": service.has_dial,
        "classes": service.classes,
        "image_size": service.image_size,
        "threat": service.threat,
        "measured": [point._asdict() for point in service.measured],
        "examples": [{"png": _png(image), "label": int(label)} for image, label in zip(images, labels, strict=True)],
    }


def _png(image: Tensor) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _body_schema(service: Service) -> dict[str, Any]:
    side = service.image_size
    binary = {"schema": {"type": "string", "format": "binary"}}
    images = {"type": "array", "description": f"(n, 3, {side}, {side}) in [0, 1]", "items": {}}
    dial = {"oneOf": [{"type": "number"}, {"type": "array", "items": {"type": "number"}}]}
    properties = {"images": images, "dial": dial, "policy": {"type": "string"}}
    body = {"type": "object", "required": ["images"], "properties": properties}
    content = {**dict.fromkeys(IMAGE_TYPES, binary), "application/json": {"schema": body}}
    return {"requestBody": {"required": True, "content": content}}
