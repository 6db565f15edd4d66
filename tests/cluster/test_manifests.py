"""Manifests, checked offline against Kubernetes' schemas, KubeRay's fields, Ray's parser and the Dockerfiles."""

from __future__ import annotations

import copy
import functools
import json
import re
import shlex
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from support.installed import needs
from support.processes import run

yaml = pytest.importorskip("yaml", reason="PyYAML reads the manifests")
needs("kubernetes_validate", "kubernetes-validate carries Kubernetes' schemas")

from jsonschema import Draft202012Validator, ValidationError  # noqa: E402  # kubernetes-validate brings them
from referencing import Registry, Resource  # noqa: E402
from referencing.jsonschema import DRAFT202012  # noqa: E402

from cluster.kubernetes.__main__ import main  # noqa: E402
from cluster.kubernetes.render import Value, defaults, manifests, render  # noqa: E402
from distcond import __version__  # noqa: E402
from distcond.errors import ConfigError  # noqa: E402

ROOT = Path(__file__).parents[2]
KUBERNETES = ("1.30", "1.37")
KINDS = {
    "batch/v1 Job": "io.k8s.api.batch.v1.Job",
    "v1 PersistentVolumeClaim": "io.k8s.api.core.v1.PersistentVolumeClaim",
}
KUBERAY = json.loads(Path(__file__).with_name("kuberay.schema.json").read_text())

# Values that Kubernetes' schemas only call strings.
VALUES = {
    "action": {"FailJob", "Ignore", "Count", "FailIndex"},
    "effect": {"NoSchedule", "PreferNoSchedule", "NoExecute"},
    "fsGroupChangePolicy": {"OnRootMismatch", "Always"},
    "medium": {"", "Memory"},
    "operator": {"Exists", "Equal", "In", "NotIn"},
    "restartPolicy": {"Never", "OnFailure", "Always"},
    "accessModes": {"ReadWriteMany"},
    "type": {"RuntimeDefault", "DisruptionTarget"},
}


def document(manifest: str, **values: Value) -> dict[str, Any]:
    made: dict[str, Any] = yaml.safe_load(render(manifest, defaults() | values))
    return made


@functools.cache
def validator(version: str, kind: str) -> Any:
    """A validator for documents of a kind, as strict as the server of a Kubernetes version."""
    folder = files("kubernetes_validate") / "kubernetes-json-schema" / f"v{version}.0-local-strict"
    core = Resource(contents=json.loads((folder / "_definitions.json").read_text()), specification=DRAFT202012)
    schema = {"$ref": f"urn:kubernetes#/$defs/{KINDS[kind]}"} if kind in KINDS else KUBERAY
    return Draft202012Validator(schema, registry=Registry().with_resource("urn:kubernetes", core))


def check(found: dict[str, Any], *versions: str) -> None:
    """Raises ValidationError for a document that a server would refuse."""
    for version in versions or KUBERNETES:
        validator(version, f"{found['apiVersion']} {found['kind']}").validate(found)
    for key, value in walk(found):
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, str) and item not in VALUES.get(key, {item}):
                raise ValidationError(f"{key}: {item}")


def walk(node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, list):
        for item in node:
            yield from walk(item)
    if isinstance(node, dict):
        for key, value in node.items():
            yield key, value
            yield from walk(value)


def put(found: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with `value` at `path`: keys and list indices, separated by dots."""
    changed = copy.deepcopy(found)
    node: Any = changed
    *parents, last = [int(part) if part.isdecimal() else part for part in path.split(".")]
    for part in parents:
        node = node[part]
    node[last] = value
    return changed


@pytest.mark.parametrize("manifest", manifests())
def test_every_manifest_is_valid(manifest: str) -> None:
    check(document(manifest))
    check(document(manifest, storage_class="fast", max_workers=16, settings=["pgd_at_digits"]))


def test_kinds_of_all_manifests() -> None:
    kinds = {manifest: document(manifest)["kind"] for manifest in manifests()}
    assert kinds == {
        "job": "Job",
        "ray_cluster": "RayCluster",
        "ray_job": "RayJob",
        "storage": "PersistentVolumeClaim",
    }


WORKERS = "spec.workerGroupSpecs.0"


@pytest.mark.parametrize(
    ("manifest", "path", "value"),
    [
        ("job", "spec.template.spec.containers.0.imagePullPolicies", "Always"),
        ("job", "spec.template.spec.containers.0.image", 1),
        ("job", "spec.template.spec.restartPolicy", "Sometimes"),
        ("job", "spec.backofLimit", 1),
        ("storage", "spec.accessModes", "ReadWriteMany"),
        ("ray_cluster", "spec.rayVersions", "2.60.0"),
        ("ray_cluster", "spec.authOptions.mode", "tokens"),
        ("ray_cluster", "spec.headGroupSpec.rayStartParams.num-cpus", 0),
        ("ray_cluster", "spec.headGroupSpec.template.spec.containers.0.ports.0.containerPorts", 1),
        ("ray_cluster", f"{WORKERS}.minReplicas", "2"),
        ("ray_cluster", f"{WORKERS}.template.spec.tolerations.0.effect", "NoSchedul"),
        ("ray_cluster", "apiVersion", "ray.io/v2"),
        ("ray_cluster", "metadata.name", "2-distcond"),
        ("ray_job", "spec.submissionMode", "JobMode"),
        ("ray_job", "spec.rayClusterSpec.workers", []),
    ],
)
def test_check_finds_mistakes(manifest: str, path: str, value: Any) -> None:
    wrong = put(document(manifest), path, value)
    with pytest.raises(ValidationError):
        check(wrong, KUBERNETES[0])


@pytest.mark.parametrize("manifest", ["ray_cluster", "ray_job"])
def test_ray_parses_the_worker_pool(manifest: str) -> None:
    module = "ray.autoscaler._private.kuberay.autoscaling_config"
    derive = pytest.importorskip(module, reason="Ray is not installed")._derive_autoscaling_config_from_ray_cr
    found = document(manifest, worker_gpus=2, min_workers=1, max_workers=3)
    # The operator creates a cluster from the cluster spec of a job.
    spec = found["spec"]["rayClusterSpec"] if manifest == "ray_job" else found["spec"]
    cluster = {"metadata": {"name": "pool", "namespace": "default"}, "spec": spec}
    types = derive(cluster)["available_node_types"]
    pool = types["gpu"]
    assert (pool["min_workers"], pool["max_workers"]) == (1, 3)
    assert pool["resources"] == {"CPU": 8, "GPU": 2, "memory": 32 * 2**30}
    assert types["headgroup"]["resources"]["CPU"] == 0
    with pytest.raises(ValueError, match="zero"):
        derive(put(cluster, "spec.headGroupSpec.rayStartParams.num-cpus", "zero"))


@pytest.mark.parametrize("manifest", ["ray_cluster", "ray_job", "job"])
def test_pods_have_shared_memory_and_no_privileges(manifest: str) -> None:
    pods = [value["spec"] for key, value in walk(document(manifest)) if key == "template"]
    assert len(pods) == (1 if manifest == "job" else 2)
    for pod in pods:
        (container,) = pod["containers"]
        assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/dev/shm", "/storage"}
        assert pod["volumes"][0]["emptyDir"] == {"medium": "Memory", "sizeLimit": "4Gi"}
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 1000
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert pods[-1]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1


@pytest.mark.parametrize("manifest", ["ray_cluster", "ray_job"])
def test_ray_cluster_requires_a_token(manifest: str) -> None:
    assert [value for key, value in walk(document(manifest)) if key == "authOptions"] == [{"mode": "token"}]


def test_every_ray_node_fixes_the_runtime_env_port() -> None:
    for manifest in ("ray_cluster", "ray_job"):
        nodes = [value for key, value in walk(document(manifest)) if key == "rayStartParams"]
        assert [node["runtime-env-agent-port"] for node in nodes] == ["52366", "52366"]
    services = yaml.safe_load((ROOT / "cluster" / "compose.yaml").read_text())["services"]
    assert all("--runtime-env-agent-port=52366" in service["command"] for service in services.values())


def test_manifests_match_the_images() -> None:
    constraints = (ROOT / "constraints.txt").read_text()
    assert f"\nray=={defaults()['ray_version']}\n" in constraints
    assert defaults()["image"] == f"distcond:{__version__}-cuda"
    for file in ("Dockerfile", "Dockerfile.cuda"):
        (command,) = re.findall(r"^CMD (.*)$", (ROOT / "docker" / file).read_text(), re.MULTILINE)
        assert json.loads(command) == defaults()["command"]
    job, train = document("ray_job")["spec"], document("job")["spec"]["template"]["spec"]["containers"][0]
    assert shlex.split(job["entrypoint"]) == [*train["command"], *train["args"]]
    assert train["command"] == defaults()["command"]
    versions = [value for key, value in walk(document("ray_job")) if key == "rayVersion"]
    assert versions == [defaults()["ray_version"]]


@pytest.mark.parametrize("values", [{"name": "Mine"}, {"name": "x" * 48}, {"min_workers": 5}, {"min_workers": 0}])
def test_invalid_values_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"^{next(iter(values))}="):
        document("ray_job", **values)


def test_command_prints_a_manifest_of_checked_settings(capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["oat_digits", "epochs=2"]
    assert main(["ray_job", "image=here/distcond:9", "max_workers=7", "--", *settings]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed == document("ray_job", image="here/distcond:9", max_workers=7, settings=settings)
    with pytest.raises(ConfigError, match=r"^epochs=none"):
        main(["ray_job", "--", "epochs=none"])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("args", [["nothing"], ["job", "images=1"], ["job", "worker_gpus=some"]])
def test_wrong_option_names_the_valid_ones(args: list[str]) -> None:
    with pytest.raises(ConfigError, match=f"^{args[-1]}: .*valid: "):
        main(args)


def test_refusal_of_the_command_is_one_line() -> None:
    done = run([sys.executable, "-m", "cluster.kubernetes", "nothing"], cwd=ROOT)
    assert done.status == 2 and done.output.count("\n") == 1
    assert done.output.startswith("error: nothing: ") and "job, ray_cluster, ray_job, storage" in done.output
