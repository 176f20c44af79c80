"""The shape of the code: who may import whom, and that importing does nothing else. Read from the syntax trees."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src"
HEAVY = ("torch", "diffusers", "transformers", "accelerate", "onnxruntime", "skimage")

BASE = {"torch", "diffusers", "safetensors", "huggingface_hub", "numpy", "PIL", "cv2", "yaml"}
LIGHT = (
    "cli.command_line",
    "cli.parser",
    "imaging.photo",
    "imaging.mask_io",
    "judging.controller",
    "imaging.compositing",
)
LIGHT += ("types", "strategies", "config", "imaging.masks", "report.reporting")
# Extras, imported inside functions only.
PLUG_INS = {"insightface", "face_alignment", "onnxruntime", "datasets", "pyarrow", "peft", "c2pa"}
PLUG_INS |= {"gradio", "cryptography", "pillow_heif"}  # cryptography beside c2pa

# From the lowest layer to the highest: a module imports from its own layer and from those below it, never upwards.
LAYERS = (
    ("types", "strategies", "exits", "progress"),
    ("config",),
    ("imaging",),
    ("models",),
    ("faces",),
    ("loading",),
    ("damage",),
    ("judging",),
    ("painting",),
    ("report", "scene"),
    ("restorer", "data"),
    ("cli", "web"),
    ("__main__",),
)
FACADE = "idinpaint"  # gives Restorer when asked for; of it the package itself may use only the version
# What saved pipelines name: each hands on one class, for nobody else.
OLD_PLACES = ("diffusion_pipeline", "sd_pipeline")


def python_files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def module_name(path: Path) -> str:
    """src/idinpaint/faces/__init__.py -> idinpaint.faces."""
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def script_imports(folder: str) -> dict[str, set[str]]:
    """Script of a folder -> the scripts beside it that it imports anywhere."""
    found = {path.stem: imported_modules(path) for path in python_files(folder)}
    return {name: (names & set(found)) - {name} for name, names in found.items()}


def imported_modules(path: Path, package: str = "") -> set[str]:
    """Dotted names of everything a file imports, at the top or inside functions; relative imports resolved."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([base] if base else [])])
            names.add(base)
            names.update(f"{base}.{alias.name}" for alias in node.names)
    return names


def source_imports() -> dict[str, set[str]]:
    """Module of the package -> what it imports."""
    found = {}
    for path in python_files("src"):
        name = module_name(path)
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        found[name] = imported_modules(path, package)
    return found


def within(module: str, part: str) -> bool:
    """True when the module is the package's part or lies in it."""
    return module == f"idinpaint.{part}" or module.startswith(f"idinpaint.{part}.")


def roots(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


IMPORTS = source_imports()


def test_reader_sees_every_form_of_import(tmp_path):
    """The other tests are worth as much as this reader."""
    file = tmp_path / "x.py"
    file.write_text("import a.b\nfrom .c import d\nfrom .. import e\ndef f():\n    from g.h import i as j\n")
    assert imported_modules(file, "p.q") == {"a.b", "p.q.c", "p.q.c.d", "p", "p.e", "g.h", "g.h.i"}
    assert "idinpaint.types" in IMPORTS and IMPORTS["idinpaint.types"]


def layer_of(module: str) -> int | None:
    """Index into LAYERS; None for the package itself, old places and what lies beside weights."""
    part = module.split(".")[1] if "." in module else ""
    return next((index for index, parts in enumerate(LAYERS) if part in parts), None)


def package_imports() -> dict[str, set[str]]:
    """Module -> the package's modules that it imports anywhere: inside functions and for type checkers too.

    The facade is left out: `from idinpaint import __version__` needs no part.
    """
    found = {}
    for module, names in IMPORTS.items():
        targets = {name if name in IMPORTS else name.rpartition(".")[0] for name in names}
        found[module] = {name for name in targets if name in IMPORTS} - {FACADE, module}
    return found


def find_circle(graph: dict[str, set[str]]) -> list[str]:
    """Names along one circle, the first one again at the end; empty when there is none."""
    done: set[str] = set()
    for start in sorted(graph):
        trail, rest = [start], [iter(sorted(graph[start]))]
        while trail:
            step = next(rest[-1], None)
            if step is None:
                done.add(trail.pop())
                rest.pop()
            elif step in trail:
                return [*trail[trail.index(step) :], step]
            elif step not in done:
                trail.append(step)
                rest.append(iter(sorted(graph[step])))
    return []


def upward(graph: dict[str, set[str]]) -> list[str]:
    """Imports from a higher layer."""
    return [
        f"{module} imports {name}"
        for module, names in graph.items()
        for name in sorted(names)
        if layer_of(module) is not None and (layer_of(name) is None or layer_of(name) > layer_of(module))
    ]


def test_every_module_has_a_layer():
    free = {FACADE, *(f"{FACADE}.{name}" for name in OLD_PLACES)}
    assert [m for m in IMPORTS if layer_of(m) is None and m not in free and "weights_bundled" not in m] == []
    parts = {module.split(".")[1] for module in IMPORTS if "." in module}
    assert {part for layer in LAYERS for part in layer} <= parts


def test_imports_point_down():
    assert upward(package_imports()) == []
    wrong = {"idinpaint.faces.a": {"idinpaint.models.b", "idinpaint.cli.c", "idinpaint.diffusion_pipeline"}}
    assert len(upward(wrong)) == 2


def test_no_circles():
    assert find_circle(package_imports()) == []
    assert "trainer" in script_imports("training")["engine"]
    assert find_circle(script_imports("training")) == find_circle(script_imports("eval")) == []
    assert find_circle({"a": {"b"}, "b": {"c", "d"}, "c": {"d"}, "d": {"b"}}) == ["b", "c", "d", "b"]


def test_of_the_facade_only_the_version_is_used_inside():
    allowed = {FACADE, f"{FACADE}.__version__"} | set(IMPORTS)
    for module, names in IMPORTS.items():
        used = {name for name in names if name.startswith(f"{FACADE}.") and name.count(".") == 1}
        assert used <= allowed, module


def test_old_places_hand_on_one_class():
    for name in OLD_PLACES:
        assert package_imports()[f"{FACADE}.{name}"] == {f"{FACADE}.models.{name}"}
        assert len(ast.parse((SRC / "idinpaint" / f"{name}.py").read_text()).body) == 2


def test_controller_sees_numbers_only():
    """The controller needs nothing outside the standard library, so that its table can be read and tested alone."""
    outside = roots(IMPORTS["idinpaint.judging.controller"]) - set(sys.stdlib_module_names) - {"idinpaint"}
    assert not outside


def test_package_never_imports_training_or_eval():
    siblings = {path.stem for folder in ("training", "eval") for path in python_files(folder)}  # run as scripts
    forbidden = ({"training", "eval", "tests"} | siblings) - set(sys.stdlib_module_names)
    wrong = [f"{module}: {roots(names) & forbidden}" for module, names in IMPORTS.items() if roots(names) & forbidden]
    assert not wrong


def test_training_and_eval_stay_apart_from_the_command_line():
    for folder, other in (("training", "eval"), ("eval", "training")):
        foreign = {path.stem for path in python_files(other)} - {path.stem for path in python_files(folder)}
        for path in python_files(folder):
            names = imported_modules(path)
            assert not any(within(name, "cli") for name in names), path
            assert not roots(names) & (foreign | {other}), path
            if folder == "training":
                assert not any(within(name, "restorer") for name in names), path


def test_package_imports_its_declared_dependencies_only():
    """Base dependencies anywhere, extras only where they are asked for (inside a function)."""
    standard = set(sys.stdlib_module_names) | {"idinpaint"}
    for path in python_files("src"):
        assert roots(imported_modules(path, "idinpaint")) <= standard | BASE | PLUG_INS, path
        top = [node for node in ast.parse(path.read_text()).body if isinstance(node, (ast.Import, ast.ImportFrom))]
        names = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module or "" for node in top if isinstance(node, ast.ImportFrom) and not node.level}
        assert not roots(names) & PLUG_INS, path


def test_nobody_needs_torchvision():
    files = [path for folder in ("src", "training", "eval", "examples", "tests") for path in python_files(folder)]
    assert files
    wrong = [path for path in files if roots(imported_modules(path)) & {"torchvision", "lpips", "facenet_pytorch"}]
    assert not wrong
    listed = (ROOT / "pyproject.toml").read_text() + (ROOT / "constraints.txt").read_text()
    assert "torchvision" not in listed


def test_bgr_lives_in_detection_only():
    """Images are RGB everywhere else: no BGR conversion, no cv2 files (but photo.py may decode 16-bit ones)."""
    allowed = {"idinpaint.faces.detection": {"COLOR_RGB2BGR"}, "idinpaint.imaging.photo": {"imdecode", "imencode"}}
    wrong = []
    for path in python_files("src"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(node, "attr", "") if isinstance(node, ast.Attribute) else ""
            is_bgr = "BGR" in name or name in {"imread", "imwrite", "imdecode", "imencode"}
            if is_bgr and name not in allowed.get(module_name(path), ()):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} {name}")
    assert not wrong


def top_level_actions(body: list[ast.stmt]) -> list[int]:
    """Lines of top-level statements that do something: bare calls, loops, `with` blocks, `del`, `assert`."""
    lines = []
    for node in body:
        if isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant):
            lines.append(node.lineno)
        elif isinstance(node, (ast.For, ast.While, ast.With, ast.Delete, ast.Assert, ast.Raise)):
            lines.append(node.lineno)
        elif isinstance(node, (ast.If, ast.Try)):
            is_main = isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)
            lines += [] if is_main else top_level_actions([*node.body, *node.orelse])
    return lines


def test_modules_only_define_things_at_the_top():
    wrong = {
        str(path.relative_to(ROOT)): lines
        for folder in ("src", "training", "eval", "examples")
        for path in python_files(folder)
        if (lines := top_level_actions(ast.parse(path.read_text(encoding="utf-8")).body))
    }
    assert not wrong


def run_python(code: str, folder: Path) -> str:
    """Run code in a fresh interpreter whose working and home folder is `folder`; return what it printed."""
    env = {**os.environ, "PYTHONPATH": str(SRC), "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    env |= {"HF_HOME": str(folder / "hf"), "XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_leave_the_heavy_libraries_alone(module, tmp_path):
    """`idinpaint --help` and every bad-input message must come at once: importing these loads no torch."""
    code = f"import sys, idinpaint.{module}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    assert run_python(code, tmp_path).split() == []


def test_importing_everything_has_no_side_effects(tmp_path):
    """No output, no file, and no other thread count, seed, dtype or environment when all modules are imported."""
    code = f"""
import importlib, os
import cv2, diffusers, torch  # these may do what they like before

def state():
    seed = torch.get_rng_state().sum().item()
    return torch.get_num_threads(), cv2.getNumThreads(), seed, torch.get_default_dtype(), dict(os.environ)

before = state()
for name in {sorted(IMPORTS)!r}:
    importlib.import_module(name)
assert before == state(), set(map(str, before)) ^ set(map(str, state()))
"""
    assert run_python(code, tmp_path) == ""
    written = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()]
    assert not written
