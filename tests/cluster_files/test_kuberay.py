"""The KubeRay manifests hold known fields only, and the settings that a search needs. Each check is seen to fail."""

import re
import shlex

import pytest

from hpa_search import __version__
from tests.cluster_files import manifest as rules
from tests.cluster_files.places import DOCKERFILE, MANIFESTS, RAY_JOB, ROOT, offered_entrypoints

FILES = sorted(MANIFESTS.glob("*.yaml"))
RAY_CLUSTER = MANIFESTS / "raycluster.yaml"
every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)


def head(manifest):
    return rules.cluster_of(manifest)["headGroupSpec"]


def container(manifest, group=0):
    return rules.groups(rules.cluster_of(manifest))[group]["template"]["spec"]["containers"][0]


def drop(items, name):
    items[:] = [item for item in items if item["name"] != name]


def variable(manifest, name):
    return next(item for item in container(manifest)["env"] if item["name"] == name)


def test_there_are_two():
    assert FILES == [RAY_CLUSTER, RAY_JOB]


@every_file
def test_nothing_is_wrong(path):
    assert rules.faults(rules.read_manifest(path)) == []


# Each change breaks a manifest; the text is part of the fault it causes.
BREAKS = {
    "kind": (lambda m: m.update(kind="RayService"), "RayService"),
    "misspelled": (lambda m: rules.cluster_of(m).update(workerGroupSpec=[]), "workerGroupSpec: no such field"),
    "deep": (lambda m: container(m, 1)["resources"]["limits"].update({"nvidia.com/gpus": "1"}), "nvidia.com/gpus: no such field"),
    "number": (lambda m: head(m)["rayStartParams"].update({"num-cpus": 0}), "0 is not a str"),
    "truth": (lambda m: rules.cluster_of(m)["workerGroupSpecs"][0].update(replicas=True), "True is not a Whole"),
    "mode": (lambda m: rules.cluster_of(m)["authOptions"].update(mode="tokens"), "not one of"),
    "no token": (lambda m: rules.cluster_of(m).pop("authOptions"), "asks for no token"),
    "no signal": (lambda m: drop(container(m)["env"], "RAY_JOB_STOP_SIGNAL"), "gets no SIGINT"),
    "hurry": (lambda m: drop(container(m)["env"], "RAY_JOB_STOP_WAIT_TIME_S"), "killed after 3 s"),
    "short grace": (lambda m: head(m)["template"]["spec"].pop("terminationGracePeriodSeconds"), "before its searches"),
    "no hook": (lambda m: container(m).pop("lifecycle"), "does not end its searches"),
    "busy head": (lambda m: head(m)["rayStartParams"].clear(), "trains besides running drivers"),
    "clear": (lambda m: variable(m, "PGPASSWORD").update(value="x"), "PGPASSWORD: stands here in clear"),
    "no password": (lambda m: drop(container(m)["env"], "PGPASSWORD"), "cannot open a study"),
    "no keys": (lambda m: container(m, 1)["env"].clear(), "has no AWS_ACCESS_KEY_ID"),
    "no mount": (lambda m: drop(container(m, 1)["volumeMounts"], "shared"), "does not mount shared"),
    "no volume": (lambda m: drop(head(m)["template"]["spec"]["volumes"], "shared"), "which the pod lacks"),
    "far cache": (lambda m: head(m)["template"]["spec"]["volumes"][1].pop("emptyDir"), "not local"),
    "less": (lambda m: container(m, 1)["resources"]["requests"].update(cpu="1"), "get less"),
    "root": (lambda m: head(m)["template"]["spec"].pop("securityContext"), "as root"),
}


@pytest.mark.parametrize("case", BREAKS)
@every_file
def test_what_is_wrong_is_seen(path, case):
    manifest = rules.read_manifest(path)
    breaks, said = BREAKS[case]
    breaks(manifest)
    found = rules.faults(manifest)
    assert found and any(said in line for line in found), found


def test_a_password_in_an_address_is_seen_and_not_told():
    manifest = rules.read_manifest(RAY_JOB)
    manifest["spec"]["entrypoint"] += " --study postgresql://hpa:secret@database/hpa"
    (fault,) = rules.faults(manifest)
    assert "postgresql" in fault and "secret" not in fault


@every_file
def test_pods_are_those_of_kubernetes(path):
    validate = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate, which has Kubernetes' schemas, is not installed"
    )
    for group in rules.groups(rules.cluster_of(rules.read_manifest(path))):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": group["template"]["spec"]}
        validate.validate(pod, "1.34", strict=True)
        pod["spec"]["containers"][0]["volumeMount"] = []
        with pytest.raises(validate.ValidationError):
            validate.validate(pod, "1.34", strict=True)


@every_file
def test_versions_are_ours(path):
    manifest = rules.read_manifest(path)
    (ray,) = re.findall(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert rules.cluster_of(manifest)["rayVersion"] == ray
    for group in rules.groups(rules.cluster_of(manifest)):
        assert group["template"]["spec"]["containers"][0]["image"] == f"hpa-search:{__version__}"


@every_file
def test_pods_fit_the_image(path):
    image = DOCKERFILE.read_text()
    (cache,) = re.findall(r"HPA_SEARCH_CACHE=(\S+)", image)
    (user,) = re.findall(r"^USER (\d+)$", image, re.MULTILINE)
    for group in rules.groups(rules.cluster_of(rules.read_manifest(path))):
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == int(user)
        assert {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}["cache"] == cache
    assert "/usr/local/bin/end-searches" in image


def test_both_describe_the_same_cluster():
    job, cluster = rules.read_manifest(RAY_JOB), rules.read_manifest(RAY_CLUSTER)
    drop(container(job)["volumeMounts"], "search")
    drop(head(job)["template"]["spec"]["volumes"], "search")
    assert rules.cluster_of(job) == rules.cluster_of(cluster)


def test_their_names_do_not_collide():
    """KubeRay names a cluster's token Secret and its service after it."""
    job, cluster = rules.read_manifest(RAY_JOB), rules.read_manifest(RAY_CLUSTER)
    secrets = {item["valueFrom"]["secretKeyRef"]["name"] for item in container(cluster)["env"] if "valueFrom" in item}
    assert len({job["metadata"]["name"], cluster["metadata"]["name"], *secrets}) == 2 + len(secrets)


def test_retries_find_the_search_again():
    """Each retry is a new cluster: data, OUT and study lie outside of it, and the search file is mounted."""
    manifest = rules.read_manifest(RAY_JOB)
    assert manifest["spec"]["backoffLimit"] > 0 and manifest["spec"]["shutdownAfterJobFinishes"]
    mounts = {mount["name"]: mount["mountPath"] + "/" for mount in container(manifest)["volumeMounts"]}
    in_force = manifest["spec"]["entrypoint"]
    on_volume, in_store = sorted(offered_entrypoints(), key=lambda entrypoint: "s3://" in entrypoint)
    assert in_force == on_volume
    for entrypoint, place in ((on_volume, mounts["shared"]), (in_store, "s3://")):
        command, run, space, *options = shlex.split(entrypoint)
        given = dict(zip(options[::2], options[1::2], strict=True))
        assert [command, run] == ["hpa-search", "run"] and space.startswith(mounts["search"])
        assert given["--ray"] == "auto" and given["--data"].startswith(place) and given["--out"].startswith(place)
    assert given["--study"].startswith("postgresql://")
