import dataclasses
import os

import numpy as np
import pytest

from hpa_search.bundle.export import check_place, publish, write_bundle
from hpa_search.bundle.manifest import read_manifest
from hpa_search.bundle.predict import NetworkFile, load_network
from hpa_search.config import TrialConfig
from hpa_search.errors import UserError
from hpa_search.scoring.calibration import Platt
from tests.servers.disk import needs_mounts, small_disk


def names(folder):
    return sorted(path.name for path in folder.rglob("*"))


def test_a_bundle_holds_the_manifest_and_the_members_weights(export, candidates):
    bundle, manifest = export()
    assert names(bundle) == ["bundle.json", *sorted(member.file for member in manifest.members)]
    for candidate, member in zip(candidates, manifest.members, strict=True):
        assert (bundle / member.file).read_bytes() == candidate.weights.read_bytes()
        assert (member.trial, member.epoch, member.config) == (candidate.trial, candidate.epoch, candidate.config)


def test_weights_that_training_started_from_are_named_without_their_folder(candidates, rule, tmp_path):
    config = TrialConfig.model_validate({**candidates[0].config.model_dump(), "weights": "/home/someone/imagenet.pth"})
    member = dataclasses.replace(candidates[0], config=config)
    write_bundle(
        tmp_path / "bundle",
        "tiny",
        [(member, 1.0, Platt(np.ones(28), np.zeros(28)))],
        rule,
        mean=(0.1,) * 4,
        std=(0.2,) * 4,
        provenance={},
    )
    assert "someone" not in (tmp_path / "bundle" / "bundle.json").read_text()
    read = read_manifest(tmp_path / "bundle").members[0]
    assert read.config.weights == "file imagenet.pth"
    load_network(NetworkFile(read.config, tmp_path / "bundle" / read.file, (0.1,) * 4, (0.2,) * 4))


def test_what_a_killed_export_left_goes(export):
    bundle, _ = export()
    (bundle / "MODEL_CARD.md").write_text("old")
    _, manifest = export(shares=(0.0, 1.0))
    assert names(bundle) == ["bundle.json", manifest.members[0].file]


def test_publishing_replaces_the_bundle_whole(export, tmp_path):
    bundle, _ = export()
    (bundle / "MODEL_CARD.md").write_text("old")
    building, manifest = export(shares=(0.0, 1.0), name="second", folder=".bundle")
    publish(building, bundle)
    assert read_manifest(bundle) == manifest
    assert names(bundle) == ["bundle.json", manifest.members[0].file]
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]  # nothing hidden is left beside it


@pytest.mark.parametrize("killed_after", ["first rename", "second rename"])
def test_after_a_kill_while_publishing_the_next_one_succeeds(export, tmp_path, killed_after):
    export(name="first", folder=".bundle.old")
    if killed_after == "second rename":
        export(name="second")
    building, manifest = export(name="third", folder=".bundle")
    publish(building, tmp_path / "bundle")
    assert read_manifest(tmp_path / "bundle") == manifest
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize("place", ["bundle", ".bundle.old"])
def test_a_failed_publication_leaves_the_old_bundle(export, tmp_path, monkeypatch, place):
    """Also where a kill had left the old bundle aside."""
    _, manifest = export(folder=place)
    building, _ = export(name="second", folder=".bundle")
    rename = os.rename

    def refuse(source, target):
        if source == building:
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(OSError, match="No space"):
        publish(building, tmp_path / "bundle")
    assert read_manifest(tmp_path / "bundle") == manifest
    assert sorted(path.name for path in tmp_path.iterdir()) == [".bundle", "bundle"]


@pytest.mark.parametrize("there", [True, False])
def test_a_bundle_that_is_a_link_stays_one_and_what_it_names_is_replaced(export, tmp_path, there):
    """As of somebody who keeps bundles on a larger disk; also where nothing is there yet."""
    (tmp_path / "big").mkdir()
    if there:
        export(folder="big/bundle")
    (tmp_path / "bundle").symlink_to("big/bundle")
    check_place(tmp_path / "bundle")
    building, manifest = export(shares=(0.0, 1.0), name="second", folder=".bundle")
    publish(building, tmp_path / "bundle")
    assert (tmp_path / "bundle").is_symlink() and read_manifest(tmp_path / "bundle") == manifest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["big", "bundle"]
    assert [path.name for path in (tmp_path / "big").iterdir()] == ["bundle"]


@needs_mounts
def test_a_link_to_another_disk_gets_the_bundle_and_a_full_one_keeps_the_old(export, tmp_path):
    with small_disk(tmp_path / "disk", megabytes=8) as disk:
        (tmp_path / "bundle").symlink_to(disk / "bundle")
        building, first = export(folder=".bundle")
        publish(building, tmp_path / "bundle")
        assert (tmp_path / "bundle").is_symlink() and read_manifest(disk / "bundle") == first
        (disk / "filler").write_bytes(bytes(os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize))
        building, _ = export(name="second", folder=".bundle")
        with pytest.raises(OSError, match="No space"):
            publish(building, tmp_path / "bundle")
        assert read_manifest(disk / "bundle") == first
        assert sorted(path.name for path in disk.iterdir()) == ["bundle", "filler"]


def test_a_link_whose_folder_is_not_there_is_known_before(tmp_path):
    check_place(tmp_path / "bundle")
    (tmp_path / "bundle").symlink_to(tmp_path / "away" / "bundle")
    with pytest.raises(FileNotFoundError):
        check_place(tmp_path / "bundle")


@pytest.mark.parametrize("other", ["NOTES.txt", "other/weights.safetensors", "deep.pt"])
def test_a_link_to_a_folder_of_other_files_is_refused_and_nothing_of_it_goes(export, tmp_path, other):
    kept = tmp_path / "models" / other
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    (tmp_path / "bundle").symlink_to("models")
    building, _ = export(folder=".bundle")
    for act in (lambda: check_place(tmp_path / "bundle"), lambda: publish(building, tmp_path / "bundle")):
        with pytest.raises(
            UserError,
            match=r"bundle is a link to .*models, which holds other files than a bundle's .*; link it to a folder of its own",
        ):
            act()
    assert kept.read_text() == "mine" and building.is_dir()


def test_a_link_to_an_empty_folder_is_taken(export, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "bundle").symlink_to("models")
    building, manifest = export(folder=".bundle")
    publish(building, tmp_path / "bundle")
    assert read_manifest(tmp_path / "models") == manifest
