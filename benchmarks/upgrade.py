"""Exchange two services behind a proxy, one after the other, under load: does any request fail?

    python -m benchmarks.upgrade photos.nda [--requests 10000] [--before CHECKOUT] [--switch]

Caddy, with the directives of deploy/Caddyfile, stands before two services on one index and one folder of stored
answers. Clients send questions, and ask for answers, images and the description of the index, without a pause. All
the while one service is told to end (SIGTERM), a new one takes its port, and as soon as it is ready the other is
exchanged. Every request must get a status of 200. `--before` runs the first two from a checkout of an earlier
version. With `--switch` a new service begins beside the one that it replaces, and Caddy is told of it (`caddy
reload`) before the other is told to end: so versions that take no question after SIGTERM are exchanged too. Needs
`caddy` on the path. Writes benchmarks/results/upgrade.md; exits with 1 if a request failed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
import numpy as np

import nda_index as nda
from benchmarks.machine import RESULTS, describe_machine
from benchmarks.serve import make_collages

ROOT = Path(__file__).parents[1]
CLIENTS = 8
ASKED = {"question": "a new answer", "answer": "a stored answer", "image": "an image", "index": "the description"}
SHARES = (0.05, 0.35, 0.5, 0.1)  # of the requests, by kind
Tell = Callable[[list[int]], Awaitable[None]]  # tells the proxy the ports of its services
PATIENCE = 120.0  # seconds for a service to be ready, and for a request


@dataclass
class Seen:
    """What became of the requests.

    Attributes:
        sent: number by kind.
        failed: number by kind and what was met in place of 200.
        seconds: of the questions.
        answers: ids that may be asked for.
        exchanges: services that were exchanged.
    """

    sent: Counter[str] = field(default_factory=Counter)
    failed: Counter[tuple[str, str]] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    exchanges: int = 0


def main() -> None:
    """Exchange, count, and write the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("index", type=Path)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--before", type=Path, help="a checkout of the version of the first two services")
    parser.add_argument("--switch", action="store_true", help="tell Caddy of a new service before the old one ends")
    parser.add_argument("--quiet", action="store_true", help="do not write the results page")
    arguments = parser.parse_args()
    if shutil.which("caddy") is None:
        sys.exit("caddy is not on the path; install it (on Debian: apt install caddy)")
    before, switch = arguments.before or ROOT, arguments.switch
    seen = asyncio.run(measure(arguments.index, arguments.requests, before, switch))
    page = as_markdown(seen, arguments.index, arguments.requests, arguments.before is not None, switch)
    print(page)
    if not arguments.quiet:
        (RESULTS / "upgrade.md").write_text(page)
    sys.exit(bool(seen.failed) or seen.exchanges < 2)


async def measure(index: Path, requests: int, before: Path, switch: bool) -> Seen:
    """Send that many requests while services are exchanged."""
    seen, (front, admin, *ports) = Seen(), find_ports(4)
    with tempfile.TemporaryDirectory() as folder:
        services = [start_service(before, index, port, Path(folder)) for port in ports]
        for port in ports:
            await wait_until_ready(port)
        async with proxy(front, admin, ports, Path(folder)) as http:
            collages, images = make_collages(index), count_images(index)
            sending = [
                asyncio.create_task(client(http, collages, images, requests, number, seen)) for number in range(CLIENTS)
            ]
            turns = switch_over if switch else exchange
            tell = partial(reload_proxy, front, admin, Path(folder))
            exchanging = asyncio.create_task(turns(services, index, ports, Path(folder), seen, tell))
            await asyncio.gather(*sending)
            exchanging.cancel()
            await asyncio.gather(exchanging, return_exceptions=True)
        for service in services:
            service.kill()
            service.wait()
    return seen


async def exchange(
    services: list[subprocess.Popen[bytes]], index: Path, ports: list[int], folder: Path, seen: Seen, tell: Tell
) -> None:
    """Exchange the services by turns, until cancelled."""
    while True:
        for number, port in enumerate(ports):
            services[number].send_signal(signal.SIGTERM)
            while services[number].poll() is None:
                await asyncio.sleep(0.05)
            services[number] = start_service(ROOT, index, port, folder)
            await wait_until_ready(port)
            seen.exchanges += 1


async def switch_over(
    services: list[subprocess.Popen[bytes]], index: Path, ports: list[int], folder: Path, seen: Seen, tell: Tell
) -> None:
    """Exchange the services by turns, until cancelled; the proxy is told of a new one before the old one is to end."""
    while True:
        for number in range(len(ports)):
            old, (port,) = services[number], find_ports(1)
            fresh = start_service(ROOT, index, port, folder)
            try:
                await wait_until_ready(port)
                ports[number] = port
                await tell(ports)
            finally:
                services[number] = fresh
                old.send_signal(signal.SIGTERM)
            while old.poll() is None:
                await asyncio.sleep(0.05)
            seen.exchanges += 1


async def client(
    http: httpx.AsyncClient, collages: Iterator[bytes], images: int, requests: int, seed: int, seen: Seen
) -> None:
    """Send one request after the other until all clients together have sent enough."""
    rng = np.random.default_rng(seed)
    while seen.sent.total() < requests:
        kind = str(rng.choice(list(ASKED), p=SHARES)) if seen.answers else "question"
        seen.sent[kind] += 1
        start = time.perf_counter()
        try:
            if kind == "question":
                response = await http.post("/v1/attribute", files={"image": ("a.png", next(collages))})
            elif kind == "answer":
                response = await http.get(f"/v1/results/{seen.answers[rng.integers(len(seen.answers))]}")
            else:
                response = await http.get("/v1/index" if kind == "index" else f"/v1/images/{rng.integers(images)}")
        except httpx.HTTPError as error:
            seen.failed[kind, type(error).__name__] += 1
            continue
        if response.status_code != 200:
            seen.failed[kind, describe_refusal(response)] += 1
        elif kind == "question":
            seen.seconds.append(time.perf_counter() - start)
            seen.answers.append(response.json()["id"])


def describe_refusal(response: httpx.Response) -> str:
    """What a response that is no success says: of the service its code, of the proxy its status alone."""
    try:
        return f"{response.status_code} {response.json()['error']['code']}"
    except (ValueError, KeyError, TypeError):
        return str(response.status_code)


def start_service(checkout: Path, index: Path, port: int, folder: Path) -> subprocess.Popen[bytes]:
    """Start a service; its log goes to a file of the folder."""
    command = [sys.executable, "-c", "from nda_index.cli.app import main; main()", "serve", str(index)]
    command += ["--port", str(port), "--results", str(folder / "answers")]
    with (folder / f"{port}.log").open("ab") as log:
        return subprocess.Popen(
            command, cwd=checkout, stdout=log, stderr=log, env=os.environ | {"NDA_INDEX_AUDIT": "off"}
        )


async def wait_until_ready(port: int) -> None:
    """Wait until a service answers questions."""
    async with httpx.AsyncClient() as http:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                if (await http.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)
    sys.exit(f"the service on port {port} was not ready within {PATIENCE:g} s")


def write_site(port: int, admin: int, services: list[int], folder: Path) -> list[str]:
    """Write the site of deploy/Caddyfile for a port of this machine; return the options of Caddy that name it."""
    site = (ROOT / "deploy" / "Caddyfile").read_text()
    site = re.sub(r"^\S+ \{$", f":{port} {{", site, count=1, flags=re.MULTILINE)
    site = site.replace(" nda-index:8000 {", " " + " ".join(f"127.0.0.1:{each}" for each in services) + " {")
    config = folder / "Caddyfile"
    config.write_text(f"{{\n\tadmin 127.0.0.1:{admin}\n\tauto_https off\n}}\n" + site)
    return ["--config", str(config), "--adapter", "caddyfile"]


async def reload_proxy(port: int, admin: int, folder: Path, services: list[int]) -> None:
    """Tell Caddy to send requests to these services."""
    options = write_site(port, admin, services, folder)
    with (folder / "reload.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec("caddy", "reload", *options, stdout=log, stderr=log)
        if await process.wait():
            sys.exit(f"caddy reload failed: {(folder / 'reload.log').read_text()[-500:]}")


@asynccontextmanager
async def proxy(port: int, admin: int, services: list[int], folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Run Caddy, with the site of deploy/Caddyfile on a port of this machine, until the block ends."""
    with (folder / "caddy.log").open("wb") as log:
        process = subprocess.Popen(
            ["caddy", "run", *write_site(port, admin, services, folder)],
            stdout=log, stderr=log, env=os.environ | {"XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)},
        )  # fmt: skip
    try:
        await wait_until_ready(port)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as http:
            yield http
    finally:
        process.terminate()
        process.wait()


def find_ports(count: int) -> list[int]:
    """Return ports that are free."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def count_images(index: Path) -> int:
    """Return the number of images."""
    with nda.open_index(index) as opened:
        return len(opened)


def as_markdown(seen: Seen, index: Path, requests: int, upgraded: bool, switched: bool) -> str:
    """The results page."""
    with nda.open_index(index) as opened:
        of = f"{len(opened):,} images of {opened.shape[1]} x {opened.shape[2]}"
    kinds = ", ".join(f"{seen.sent[kind]:,} for {what}" for kind, what in ASKED.items())
    p50, p99 = np.percentile(seen.seconds, (50, 99)) if seen.seconds else (float("nan"), float("nan"))
    lines = [
        "# Services exchanged behind a proxy",
        "",
        f"`python -m benchmarks.upgrade --requests {requests}{' --switch' if switched else ''}` on "
        f"{describe_machine()}. {of}.",
        "",
        f"{seen.sent.total():,} requests of {CLIENTS} clients ({kinds}) through Caddy to two services, while "
        f"{seen.exchanges} services were exchanged{', the first two of an earlier version' if upgraded else ''}: "
        f"{seen.failed.total()} failed. A question took {p50:.2f} s at the median and {p99:.2f} s at the 99th "
        "percentile.",
    ]
    lines += ["", *(f"- {kind}: {met}, {count} times" for (kind, met), count in seen.failed.most_common(20))]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    main()
