"""data phantom and data check."""

import subprocess
import sys


def test_a_phantom_is_drawn_and_checked(hpa, tmp_path):
    drawn = hpa("data", "phantom", tmp_path / "data", "--images", 6, "--test-images", 2, "--size", 32, "--seed", 3)
    assert f"6 images in {tmp_path / 'data'}. Next: hpa-search data check {tmp_path / 'data'}" in drawn
    checked = hpa("data", "check", tmp_path / "data", "--sheet", tmp_path / "sheet.png")
    assert "6 images of 32 px, 2 test images; no fault found." in checked
    assert (tmp_path / "sheet.png").stat().st_size > 0


def test_the_same_seed_draws_the_same_images(hpa, tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        hpa("data", "phantom", tmp_path / name, "--images", 2, "--test-images", 1, "--size", 32, "--seed", seed)
    tables = [(tmp_path / name / "train.csv").read_bytes() for name in "abc"]
    assert tables[0] == tables[1] != tables[2]


def test_all_faults_come_in_one_message(hpa, tmp_path):
    hpa("data", "phantom", tmp_path / "data", "--images", 4, "--test-images", 1, "--size", 32)
    images = sorted((tmp_path / "data" / "train").iterdir())[:2]
    for path in images:
        path.write_text("not an image")
    said = hpa("data", "check", tmp_path / "data", "--sheet", tmp_path / "sheet.png", code=2)
    assert f"{tmp_path / 'data'} has 2 fault(s):" in said
    assert all(path.name in said for path in images)
    assert not (tmp_path / "sheet.png").exists()


def test_a_sheet_on_standard_output_has_it_alone(phantom):
    command = [sys.executable, "-m", "hpa_search.cli", "data", "check", str(phantom), "--sheet", "/dev/stdout"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stdout.startswith(b"\x89PNG") and done.stdout.endswith(b"IEND\xaeB`\x82")
    assert b"no fault found" in done.stderr
