"""The benchmarks run by hand, so what they import is looked for here."""

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = sorted((Path(__file__).parent / "benchmarks").glob("*.py"))


def imported(path):
    """Return the names that a file imports from this package, with their modules."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    return [(node.module, name.name) for node in nodes if (node.module or "").startswith("hpa_search") for name in node.names]


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_what_a_benchmark_imports_is_there(path):
    for module, name in imported(path):
        if not hasattr(importlib.import_module(module), name):
            importlib.import_module(f"{module}.{name}")


@pytest.mark.long
def test_the_gpu_benchmark_runs_on_a_cpu_without_ray_and_optuna(tmp_path):
    out = tmp_path / "rows.jsonl"
    code = (
        "import runpy, sys; sys.modules.update(ray=None, optuna=None); "
        f"sys.argv = ['gpu.py', '--device', 'cpu', '--out', {str(out)!r}]; runpy.run_path({str(BENCHMARKS[0].with_name('gpu.py'))!r}, run_name='__main__')"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert not any("failed" in row for row in rows)
    assert {row["part"] for row in rows} == {"machine", "correct", "steps", "slots"}
    assert sum("images_a_second" in row for row in rows) == 8
