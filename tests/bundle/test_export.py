import os

import pytest

from hpa_search.bundle.manifest import read_manifest


def names(folder):
    return sorted(path.name for path in folder.rglob("*"))


def test_a_bundle_holds_the_manifest_and_the_members_weights(export, candidates):
    bundle, manifest = export()
    assert names(bundle) == ["bundle.json", *sorted(member.file for member in manifest.members)]
    for candidate, member in zip(candidates, manifest.members, strict=True):
        assert (bundle / member.file).read_bytes() == candidate.weights.read_bytes()
        assert (member.trial, member.epoch, member.config) == (candidate.trial, candidate.epoch, candidate.config)


def test_exporting_again_replaces_the_bundle_whole(export, tmp_path):
    bundle, _ = export()
    (bundle / "MODEL_CARD.md").write_text("old")
    export(shares=(0.0, 1.0), name="second")
    manifest = read_manifest(bundle)
    assert (manifest.name, len(manifest.members)) == ("second", 1)
    assert names(bundle) == ["bundle.json", manifest.members[0].file]
    assert names(tmp_path)[0] == "bundle"  # nothing hidden is left beside it


def test_a_failed_export_leaves_the_old_bundle_and_nothing_else(export, tmp_path, candidates, monkeypatch):
    bundle, manifest = export()
    with pytest.raises(ValueError, match="do not add up"):
        export(shares=(0.5, 0.1))
    rename = os.rename

    def refuse(source, target):
        if str(target) == str(bundle) and not str(source).endswith(".old"):
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(OSError, match="No space"):
        export(name="second")
    assert read_manifest(bundle) == manifest
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
