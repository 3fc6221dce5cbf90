"""The files in deploy/: they parse, and what they name is there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer

import nda_index as nda
from nda_index.cli.app import app
from tests.serve.conftest import Served

ROOT = Path(nda.__file__).parents[1]
DEPLOY = ROOT / "deploy"


def documents(name: str) -> list[Any]:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def test_the_dashboard_shows_metrics_that_there_are(served: Served) -> None:
    lines = served.http.get("/metrics").text.splitlines()
    kept = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    known = kept | {f"{name}_{part}" for name in kept for part in ("bucket", "sum", "count")}
    panels = json.loads((DEPLOY / "dashboard.json").read_text())["panels"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    shown = set(re.findall(r"\b(?:nda_index|process)_\w+", " ".join(expressions)))
    assert len(expressions) >= 14
    assert shown - known == set()
    page = (ROOT / "docs" / "serving.md").read_text()
    own = {re.sub("_(bucket|sum|count)$", "", name) for name in shown if name.startswith("nda_index_")}
    assert {name for name in own if name not in page} == set()
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}) == len(panels)


@pytest.mark.parametrize(
    "name",
    [
        "Dockerfile",
        "nda-index.service",
        "nda-index@.service",
        "kubernetes.yaml",
        "kubernetes-copies.yaml",
        "compose.yaml",
        "Caddyfile",
    ],
)
def test_options_and_paths_are_those_of_the_service(served: Served, name: str) -> None:
    text = (DEPLOY / name).read_text()
    others = ("HEALTHCHECK", "COPY", "RUN", "#", "    &&")
    text = "\n".join(line for line in text.splitlines() if not line.startswith(others))
    command = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    if name not in ("compose.yaml", "Caddyfile"):
        used = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))
        assert {"--token-file", "--log-json"} <= used
        assert used - known == set()
    for path in re.findall(r"(?:path: |_uri |8000)(/[a-z]+z)\b", text):
        assert served.http.get(path).status_code == 200


def test_the_container_is_not_root_and_its_root_is_read_only() -> None:
    assert re.findall(r"^USER (\S+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE) == ["10001:10001"]
    (compose,) = documents("compose.yaml")
    service = compose["services"]["nda-index"]
    assert (service["read_only"], service["cap_drop"], service.get("ports")) == (True, ["ALL"], None)
    assert set(compose["services"]) == {"nda-index", "caddy"}
    deployment = next(each for each in documents("kubernetes.yaml") if each["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] and container["securityContext"]["readOnlyRootFilesystem"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert pod["terminationGracePeriodSeconds"] > 60  # --drain


def test_each_pod_of_copies_pulls_before_it_serves_and_beside_it() -> None:
    deployment = next(each for each in documents("kubernetes-copies.yaml") if each["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    ((first,), (service, beside)) = pod["initContainers"], pod["containers"]
    command, source, target = first["args"]
    assert (command, service["args"][1]) == ("pull", target)
    assert f"nda-index pull {source} {target};" in beside["args"][0]
    for container in (first, service, beside):
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert {mount["name"] for mount in container["volumeMounts"]} <= {volume["name"] for volume in pod["volumes"]}
    assert pod["securityContext"]["runAsNonRoot"] and service["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert subprocess.run(["sh", "-n", "-c", beside["args"][0]], check=False).returncode == 0


def test_instances_are_the_service_on_their_ports_and_of_one_user() -> None:
    one, several = ((DEPLOY / name).read_text() for name in ("nda-index.service", "nda-index@.service"))

    def settings(unit: str) -> list[str]:
        return [line for line in unit.splitlines() if line and not line.startswith(("#", "Description="))]

    alike = [line.replace(" --port %i", "") for line in settings(several) if line != "User=nda-index"]
    assert alike == settings(one)
    assert " --port %i " in several and "User=nda-index\n" in (DEPLOY / "nda-index-pull.service").read_text()


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    names = ("nda-index.service", "nda-index@.service", "nda-index-pull.service", "nda-index-pull.timer")
    units = [tmp_path / name for name in names]
    for unit in units:
        unit.write_text((DEPLOY / unit.name).read_text().replace("/opt/nda-index/bin/nda-index", "/bin/true"))
    checked = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")
    pull = (DEPLOY / "nda-index-pull.service").read_text()
    served = re.search(r"serve (\S+)", (DEPLOY / "nda-index.service").read_text())
    assert served is not None and f" {served[1]}\n" in pull and "SuccessExitStatus=10" in pull
