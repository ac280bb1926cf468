import json
import os

import pytest

from hpa_search.bundle.manifest import MANIFEST, read_manifest, sha256
from hpa_search.config import TrialConfig
from hpa_search.errors import UserError
from hpa_search.labels import LABELS


def change(bundle, **changes):
    path = bundle / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_member(bundle, **changes):
    members = json.loads((bundle / MANIFEST).read_text())["members"]
    change(bundle, members=[{**members[0], **changes}, *members[1:]])


def test_a_manifest_reads_back_as_it_was_written(export):
    bundle, manifest = export()
    assert read_manifest(bundle) == manifest


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00\x01", "[" * 100_000, '{"format": 1}', "\ud7ff{"])
def test_foreign_or_cut_json_is_refused_by_name(export, text):
    bundle, _ = export()
    (bundle / MANIFEST).write_text(text)
    with pytest.raises(UserError, match=MANIFEST) as caught:
        read_manifest(bundle)
    assert "hpa-search finish" in str(caught.value)
    assert len(str(caught.value)) < 2000


def test_every_cut_and_many_flips_of_the_manifest_are_refused_or_mean_the_same(export):
    bundle, manifest = export()
    content = (bundle / MANIFEST).read_bytes()
    damaged = [content[:end] for end in range(0, len(content) - 2, 41)]
    damaged += [content[:at] + bytes([content[at] ^ 0x80]) + content[at + 1 :] for at in range(0, len(content), 17)]
    for bad in damaged:
        (bundle / MANIFEST).write_bytes(bad)
        with pytest.raises(UserError, match=MANIFEST):
            read_manifest(bundle)


@pytest.mark.parametrize("offset", [0, 8, 200, -1])
def test_a_flipped_byte_in_the_weights_is_refused_by_file_name(export, offset):
    bundle, manifest = export()
    path = bundle / manifest.members[1].file
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{path.name}: damaged or foreign"):
        read_manifest(bundle)


def test_missing_weights_are_refused_by_file_name(export):
    bundle, manifest = export()
    (bundle / manifest.members[0].file).unlink()
    with pytest.raises(UserError, match=f"{manifest.members[0].file}: missing"):
        read_manifest(bundle)


@pytest.mark.parametrize("file", ["../x.safetensors", "/etc/x.safetensors", "a/b.safetensors", "x.pt", "x.safetensors\n", ""])
def test_a_member_names_no_file_outside_the_bundle(export, file):
    bundle, _ = export()
    change_member(bundle, file=file)
    with pytest.raises(UserError, match=r"members\.0\.file: expected the name"):
        read_manifest(bundle)


GRAPH = {"file": "model.onnx", "sha256": "0" * 64, "size": 3, "pixels": 64}


@pytest.mark.parametrize(
    "file", ["../model.onnx", "/etc/model.onnx", "a/model.onnx", "model.onnx\n", "model.onnx.data", ".onnx", ""]
)
def test_a_graph_is_no_file_outside_the_bundle(export, file):
    bundle, _ = export()
    change(bundle, onnx={**GRAPH, "file": file})
    with pytest.raises(UserError, match=r"onnx\.file: expected the name"):
        read_manifest(bundle)


def test_a_graph_is_checked_and_has_no_further_files(export):
    bundle, _ = export()
    change(bundle, onnx=GRAPH)
    with pytest.raises(UserError, match=r"model\.onnx: missing"):
        read_manifest(bundle)
    (bundle / "model.onnx").write_bytes(b"abc")
    with pytest.raises(UserError, match=r"model\.onnx: damaged or foreign"):
        read_manifest(bundle)
    change(bundle, onnx={**GRAPH, "external_data": ["../../secret"]})
    with pytest.raises(UserError, match="external_data: unknown key"):
        read_manifest(bundle)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tta": "median"}, "tta"),
        ({"format": 1}, "reads format 3"),
        ({"labels": ["Nucleoplasm"]}, "not those of this task"),
        ({"std": [0.1, 0.1, 0.1, -0.1]}, "negative"),
        ({"mean": [0.1]}, "mean: expected a list of 4 numbers"),
        ({"members": []}, "members: expected a list that is not empty"),
        ({"rule": {}}, "platt"),
        ({"rule": {"platt": {"slope": [1.0], "offset": [0.0]}, "thresholds": [0.5], "fill": True}}, "expected 28"),
        (
            {"rule": {"platt": {"slope": [1.0] * 28, "offset": [0.0] * 28}, "thresholds": [1.5] * 28, "fill": True}},
            "between 0 and 1",
        ),
        (
            {"rule": {"platt": {"slope": [10**400] * 28, "offset": [0.0] * 28}, "thresholds": [0.5] * 28, "fill": True}},
            r"rule\.platt\.slope\.0: expected a number",
        ),
        ({"further": 1}, "further: unknown key"),
        ({"name": 3}, "name: expected text"),
    ],
)
def test_what_does_not_fit_the_task_is_refused(export, changes, words):
    bundle, _ = export()
    change(bundle, **changes)
    with pytest.raises(UserError, match=words):
        read_manifest(bundle)


@pytest.mark.parametrize("changes", [{"weight": 0.5}, {"weight": "0.75"}, {"sha256": "0" * 64}, {"config": {"batch_size": 1}}])
def test_a_member_that_was_tampered_with_is_refused(export, changes):
    bundle, _ = export()
    change_member(bundle, **changes)
    with pytest.raises(UserError):
        read_manifest(bundle)


MAP = {"slope": [0.5] * 28, "offset": [0.25] * 28}
BEFORE = {
    "format": 3,
    "name": "older",
    "labels": list(LABELS),
    "channels": ["red", "green", "blue", "yellow"],
    "mean": [0.1, 0.2, 0.3, 0.4],
    "std": [0.2, 0.2, 0.2, 0.2],
    "members": [],
    "rule": {"platt": {"slope": [1.5] * 28, "offset": [-0.5] * 28}, "thresholds": [0.25] * 28, "fill": True},
    "tta": "mean",
    "onnx": None,
    "provenance": {"version": "0.1.0", "thresholds": "plug_in", "ensemble": "greedy"},
}


def test_a_bundle_that_was_written_before_is_read(tmp_path):
    """As its JSON was when the calibration and the rule were mappings of any content."""
    (tmp_path / "m.safetensors").write_bytes(b"weights")
    member = {"search": "older", "labels": None, "trial": 3, "epoch": 9, "weight": 1.0, "map": MAP}
    member |= {"config": TrialConfig().model_dump(), "file": "m.safetensors", "sha256": sha256(tmp_path / "m.safetensors")}
    written = {**BEFORE, "members": [member]}
    (tmp_path / MANIFEST).write_text(json.dumps(written))
    manifest = read_manifest(tmp_path)
    assert manifest.members[0].map.platt.slope.tolist() == MAP["slope"]
    rule = manifest.decision_rule
    assert (rule.platt.offset[3], rule.thresholds[3], rule.fill) == (-0.5, 0.25, True)
    assert json.loads(manifest.model_dump_json()) == written


def test_a_folder_or_a_file_that_is_no_bundle(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file", tmp_path / "missing"):
        with pytest.raises(UserError, match="is not a bundle"):
            read_manifest(path)


def test_weights_that_are_no_plain_file_are_refused(export):
    bundle, manifest = export()
    path = bundle / manifest.members[0].file
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match="missing"):
        read_manifest(bundle)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4665b3\nsize 46830571\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (POINTER, "a Git LFS pointer.*run `git lfs pull`"),
        (b"<html><title>Sign in</title>", r"a web page \('Sign in'\).*download the file itself"),
        (b"", "empty"),
        (bytes(1000), "made of zero bytes"),
    ],
)
def test_a_file_that_stands_for_one_is_told_by_what_it_is(export, content, words):
    bundle, manifest = export()
    weights = (bundle / manifest.members[0].file).read_bytes()
    (bundle / manifest.members[0].file).write_bytes(content)
    with pytest.raises(UserError, match=f"{manifest.members[0].file}: damaged or foreign: it is {words}"):
        read_manifest(bundle)
    (bundle / manifest.members[0].file).write_bytes(weights)
    (bundle / MANIFEST).write_bytes(content)
    with pytest.raises(UserError, match=f"{MANIFEST}: is {words}(.|\n)*hpa-search finish"):
        read_manifest(bundle)


def test_a_byte_order_mark_is_no_fault(export):
    bundle, manifest = export()
    (bundle / MANIFEST).write_bytes(b"\xef\xbb\xbf" + (bundle / MANIFEST).read_bytes())
    assert read_manifest(bundle) == manifest


def test_numbers_that_another_program_wrote_are_taken_within_rounding(export):
    bundle, _ = export(shares=(1.0,))
    change_member(bundle, weight=1.0000000000000002)
    rule = json.loads((bundle / MANIFEST).read_text())["rule"]
    change(bundle, std=[0.1, 0.1, 0.1, -1e-18], rule={**rule, "thresholds": [1.0000001] * 27 + [-1e-9]})
    manifest = read_manifest(bundle)
    assert manifest.ensemble.weights.tolist() == [1.0] and manifest.std == (0.1, 0.1, 0.1, 0.0)
    assert manifest.decision_rule.thresholds.tolist() == [1.0] * 27 + [0.0]


@pytest.mark.parametrize(
    ("weight", "words"),
    [(1.0000021, "at most 1 .given: 1.0000021."), (0.999997, "do not add up to 1, but to 0.999997"), (-1e-18, "above 0")],
)
def test_beyond_rounding_the_digits_that_are_wrong_are_shown(export, weight, words):
    bundle, _ = export(shares=(1.0,))
    change_member(bundle, weight=weight)
    with pytest.raises(UserError, match=words):
        read_manifest(bundle)
