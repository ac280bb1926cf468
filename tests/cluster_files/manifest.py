"""The fields that our KubeRay manifests may hold, and the settings that each of them must hold.

Fields and types of ray.io/v1: "KubeRay CRD API reference" on docs.ray.io, release 1.7. Those of pods: the Kubernetes API
reference, core/v1. Only the fields of our manifests are listed: look a new field up there, and add it.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML


class Whole(int):
    """Marks an int32 field, which refuses YAML's true and false."""


WORDS = {"": str}  # object (keys: string, values: string)
SECRET_KEY = {"name": str, "key": str, "optional": bool}
ENV = {"name": str, "value": str, "valueFrom": {"secretKeyRef": SECRET_KEY}}
QUANTITIES = {"cpu": str, "memory": str, "nvidia.com/gpu": str}
CONTAINER = {
    "name": str,
    "image": str,
    "env": [ENV],
    "lifecycle": {"preStop": {"exec": {"command": [str]}}},
    "resources": {"requests": QUANTITIES, "limits": QUANTITIES},
    "volumeMounts": [{"name": str, "mountPath": str, "readOnly": bool}],
}
SECURITY = {"runAsNonRoot": bool, "runAsUser": Whole, "fsGroup": Whole, "fsGroupChangePolicy": {"Always", "OnRootMismatch"}}
VOLUME = {
    "name": str,
    "persistentVolumeClaim": {"claimName": str},
    "emptyDir": {},
    "configMap": {"name": str},
}
POD = {
    "terminationGracePeriodSeconds": Whole,
    "securityContext": SECURITY,
    "tolerations": [
        {"key": str, "operator": {"Exists", "Equal"}, "effect": {"NoSchedule", "PreferNoSchedule", "NoExecute"}, "value": str}
    ],
    "containers": [CONTAINER],
    "volumes": [VOLUME],
}
WORKERS = {
    "groupName": str,
    "replicas": Whole,
    "minReplicas": Whole,
    "maxReplicas": Whole,
    "rayStartParams": WORDS,
    "template": {"spec": POD},
}
RAY_CLUSTER = {
    "rayVersion": str,
    "authOptions": {"mode": {"token", "disabled"}},
    "headGroupSpec": {"rayStartParams": WORDS, "template": {"spec": POD}},
    "workerGroupSpecs": [WORKERS],
}
RAY_JOB = {
    "entrypoint": str,
    "submissionMode": {"K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode"},
    "backoffLimit": Whole,
    "shutdownAfterJobFinishes": bool,
    "ttlSecondsAfterFinished": Whole,
    "rayClusterSpec": RAY_CLUSTER,
}
KINDS = {"RayCluster": RAY_CLUSTER, "RayJob": RAY_JOB}

SECRET_NAME = re.compile(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY")
PASSWORD_IN_URL = re.compile(r"://[^/\s:@]*:[^/\s@]+@")
NODES_NEED = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL"}


def read_manifest(path: Path) -> dict[str, Any]:
    """Return the one document of a file, with its anchors resolved into plain copies."""
    return plain(YAML(typ="safe").load(path.read_text(encoding="utf-8")))


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def cluster_of(manifest: dict[str, Any]) -> dict[str, Any]:
    return manifest["spec"]["rayClusterSpec"] if manifest["kind"] == "RayJob" else manifest["spec"]


def groups(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def faults(manifest: dict[str, Any]) -> list[str]:
    """Return the faults of a manifest, one line each; an empty list if it may be applied."""
    if manifest.get("apiVersion") != "ray.io/v1" or manifest.get("kind") not in KINDS:
        return [f"not a RayCluster or RayJob of ray.io/v1: {manifest.get('apiVersion')}, {manifest.get('kind')}"]
    shape = {"apiVersion": str, "kind": str, "metadata": {"name": str}, "spec": KINDS[manifest["kind"]]}
    if found := list(unknown(manifest, shape, manifest["kind"])):
        return found
    cluster = cluster_of(manifest)
    found = [*head_faults(cluster["headGroupSpec"]), *words_faults(manifest)]
    if cluster.get("authOptions") != {"mode": "token"}:
        found.append("the cluster asks for no token")
    for group in groups(cluster):
        found += pod_faults(group["template"]["spec"])
    return found


def unknown(value: Any, shape: Any, place: str) -> Iterator[str]:
    """Yield a line for each field that is unknown or has a value of another type."""
    if isinstance(shape, set):
        if value not in shape:
            yield f"{place}: {value!r} is not one of {sorted(shape)}"
    elif isinstance(shape, list):
        if not isinstance(value, list):
            yield f"{place}: not a list"
        else:
            for index, inner in enumerate(value):
                yield from unknown(inner, shape[0], f"{place}[{index}]")
    elif isinstance(shape, dict):
        yield from unknown_fields(value, shape, place)
    elif type(value) is not (int if shape is Whole else shape):
        yield f"{place}: {value!r} is not a {shape.__name__}"


def unknown_fields(value: Any, shape: dict[str, Any], place: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{place}: holds no fields"
        return
    for name, inner in value.items():
        if name not in shape and "" not in shape:
            yield f"{place}.{name}: no such field"
        else:
            yield from unknown(inner, shape.get(name, shape.get("")), f"{place}.{name}")


def head_faults(head: dict[str, Any]) -> Iterator[str]:
    pod = head["template"]["spec"]
    container = pod["containers"][0]
    words = {variable["name"]: variable.get("value") for variable in container["env"]}
    if words.get("RAY_JOB_STOP_SIGNAL") != "SIGINT":
        yield "head: a stopped job gets no SIGINT"
    wait = int(words.get("RAY_JOB_STOP_WAIT_TIME_S") or 3)
    if wait < 60:
        yield f"head: a stopped job is killed after {wait} s"
    if pod.get("terminationGracePeriodSeconds", 30) < wait + 30:
        yield "head: the pod is killed before its searches and Ray can end"
    if not any(
        "end-searches" in word for word in container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", [])
    ):
        yield "head: a leaving pod does not end its searches first"
    if head["rayStartParams"].get("num-cpus") != "0":
        yield "head: trains besides running drivers"
    if "PGPASSWORD" not in words:
        yield "head: cannot open a study that asks for a password"


def pod_faults(pod: dict[str, Any]) -> Iterator[str]:
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    if "emptyDir" not in volumes.get("cache", {}):
        yield "the cache is not local to the node"
    if "persistentVolumeClaim" not in volumes.get("shared", {}):
        yield "no volume is shared by the pods"
    for container in pod["containers"]:
        name, mounted = container["name"], {mount["name"] for mount in container["volumeMounts"]}
        yield from (f"{name}: does not mount {volume}" for volume in sorted(set(volumes) - mounted))
        yield from (f"{name}: mounts {volume}, which the pod lacks" for volume in sorted(mounted - set(volumes)))
        yield from (f"{name}: has no {key}" for key in sorted(NODES_NEED - {variable["name"] for variable in container["env"]}))
        if container["resources"]["requests"] != container["resources"]["limits"]:
            yield f"{name}: may get less than Ray counts on"
    if not pod.get("securityContext", {}).get("runAsNonRoot"):
        yield "the pod runs as root"


def words_faults(value: Any) -> Iterator[str]:
    """Yield a line for each secret written in the manifest itself."""
    if isinstance(value, dict):
        name = value.get("name")
        if "value" in value and isinstance(name, str) and SECRET_NAME.search(name):
            yield f"{name}: stands here in clear; take it from a Secret"
        for inner in value.values():
            yield from words_faults(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from words_faults(inner)
    elif isinstance(value, str) and PASSWORD_IN_URL.search(value):
        yield f"a password in {value.split(':')[0]}://"
