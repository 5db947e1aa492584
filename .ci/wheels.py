"""Test of the wheels: build every package, install each wheel alone, and use it as its users do.

Each wheel gets a new virtual environment with the sibling wheels that it requires. There all its modules must import, with
and without its optional requirements; each import must be declared; a typed program must pass `mypy --strict` and run; and
the package's tests must pass. A lower layer cannot import a higher one there.

`python .ci/wheels.py FOLDER` builds in an empty or missing folder.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
UV = os.environ.get("UV") or shutil.which("uv") or "uv"
NUMPY_ONLY = "axone-autograd"
PEERS = {"torch", "transformers"}  # functions that compare with them may import them; nothing requires them
ALL_SIBLINGS = {
    "axone",
    "axone-llm",
}  # each requires all layers below: its tests would see the same modules as in the workspace
COMMAND = "axone"  # the package without a layer of its own: the module axone.cli and the command of that name

IMPORT_ALL = """
import importlib, pkgutil, sys
package, *optional = sys.argv[1:]
for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        if error.name.partition(".")[0].lower() not in optional:
            raise
"""


@dataclass(frozen=True)
class Wheel:
    """A built wheel and its metadata."""

    path: Path
    name: str
    version: str
    requires: list[Requirement]

    @property
    def member(self) -> str:
        """The folder under packages/."""
        return "cli" if self.name == COMMAND else self.name.removeprefix("axone-")

    @property
    def extras(self) -> list[str]:
        """The names of its optional groups of requirements."""
        markers = [str(requirement.marker) for requirement in self.requires if requirement.marker]
        return sorted({extra for marker in markers for extra in re.findall(r"extra == [\"'](.+?)[\"']", marker)})

    @property
    def optional(self) -> list[str]:
        """The names of its optional requirements."""
        return [
            canonicalize_name(requirement.name) for requirement in self.requires if "extra" in str(requirement.marker)
        ]

    @property
    def module(self) -> str:
        """The installed package."""
        return f"axone.{self.member}"


class Fault(Exception):  # noqa: N818 - a finding, not an error of this script
    """A requirement that a wheel does not satisfy."""


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """Run a command and return its output; raise a Fault with the output if it fails."""
    clean = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=clean,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Fault(f"{' '.join(map(str, command))}\n{done.stdout}")
    return done.stdout


def build(folder: Path) -> dict[str, Wheel]:
    """Build a wheel of every package, each from its own source distribution."""
    run(UV, "build", "--all-packages", "--out-dir", folder)
    wheels = {}
    for path in sorted(folder.glob("*.whl")):
        with zipfile.ZipFile(path) as archive:
            files = archive.namelist()
            (metadata,) = (name for name in files if name.endswith(".dist-info/METADATA"))
            fields = Parser().parsestr(archive.read(metadata).decode())
        requires = [Requirement(line) for line in fields.get_all("Requires-Dist", [])]
        wheel = Wheel(path, canonicalize_name(fields["Name"]), fields["Version"], requires)
        typed = f"{wheel.module.replace('.', '/')}/py.typed"
        for wanted in (typed, f"{Path(metadata).parent}/licenses/LICENSE"):
            if wanted not in files:
                raise Fault(f"{path.name} must hold {wanted}")
        if "axone/__init__.py" in files:
            raise Fault(f"{path.name} must not hold axone/__init__.py")
        wheels[wheel.name] = wheel
    members = {path.parent.name for path in ROOT.glob("packages/*/pyproject.toml")}
    if {wheel.member for wheel in wheels.values()} != members:
        raise Fault(f"wheels built ({sorted(wheels)}) must be those of the packages ({sorted(members)})")
    return wheels


def check_bounds(wheel: Wheel, wheels: dict[str, Wheel]) -> None:
    """Check that each sibling is required by a version range that includes its current version."""
    for requirement in wheel.requires:
        sibling = wheels.get(canonicalize_name(requirement.name))
        if sibling is None:
            continue
        operators = {specifier.operator for specifier in requirement.specifier}
        if not operators >= {">=", "<"} or not requirement.specifier.contains(sibling.version):
            raise Fault(
                f"{wheel.name} requires '{requirement}': the range must have both bounds and include {sibling.version}"
            )


def siblings(wheel: Wheel, wheels: dict[str, Wheel]) -> set[str]:
    """Return the names of the packages that are installed with a wheel, including its own."""
    direct = {canonicalize_name(requirement.name) for requirement in wheel.requires} & set(wheels)
    return {wheel.name}.union(*(siblings(wheels[name], wheels) for name in direct))


def install(wheel: Wheel, wheels: dict[str, Wheel], venv: Path) -> Path:
    """Install a wheel with its siblings into a new environment, and return its Python."""
    run(UV, "venv", "--clear", "--python", sys.executable, venv)
    python = venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    run(UV, "pip", "install", "--python", python, *(wheels[name].path for name in sorted(siblings(wheel, wheels))))
    installed = run(UV, "pip", "list", "--quiet", "--python", python, "--format", "freeze").split()
    names = {line.partition("==")[0] for line in installed}
    if wheel.name == NUMPY_ONLY and names != {NUMPY_ONLY, "numpy"}:
        raise Fault(f"{wheel.name} installs {sorted(names)}: it must require NumPy only")
    return python


def check_declared(wheel: Wheel) -> None:
    """Check that each import, also inside functions, is the standard library, the package itself or a requirement."""
    declared = {canonicalize_name(requirement.name) for requirement in wheel.requires} | {wheel.name}
    for source in sorted((ROOT / "packages" / wheel.member / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module == "axone":
                names = [f"axone.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            else:
                continue
            for name in names:
                top, *rest = name.split(".")
                if name == "axone.cli" or name.startswith("axone.cli."):
                    distribution = COMMAND
                else:
                    distribution = canonicalize_name(f"axone-{rest[0]}" if top == "axone" else top)
                compared = distribution in PEERS and node.col_offset > 0  # inside a function
                if top not in sys.stdlib_module_names and distribution not in declared and not compared:
                    raise Fault(f"{source.relative_to(ROOT)}:{node.lineno} imports {name}, which is not declared")


def programs(wheel: Wheel, folder: Path) -> list[Path]:
    """Return the package's program in .ci/programs, and the README examples whose highest layer it is."""
    found = [ROOT / f".ci/programs/{wheel.member}.py"]
    texts = {
        "readme": (ROOT / "README.md").read_text(encoding="utf-8"),
        f"readme_{wheel.member}": (ROOT / f"packages/{wheel.member}/README.md").read_text(encoding="utf-8"),
    }
    height = ["tokenizer", "autograd", "nn", "llm", "cli"].index
    for label, text in texts.items():
        for number, block in enumerate(re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)):
            if max(re.findall(r"axone\.(\w+)", block), key=height) == wheel.member:
                found.append(folder / f"{label}_{number}.py")
                found[-1].write_text(block, encoding="utf-8")
    return found


def check(wheel: Wheel, wheels: dict[str, Wheel], folder: Path) -> None:
    """Check one wheel; raise the first Fault."""
    check_bounds(wheel, wheels)
    check_declared(wheel)
    python = install(wheel, wheels, folder / "venv")  # one path for all: mypy's cache of NumPy then serves all
    run(python, "-I", "-W", "error", "-c", IMPORT_ALL, wheel.module, *wheel.optional, cwd=folder)
    mypy = (sys.executable, "-m", "mypy", "--strict", "--cache-dir", folder / "mypy", "--python-executable", python)
    examples = programs(wheel, folder)
    run(*mypy, "--config-file", os.devnull, *examples, cwd=folder)
    for program in examples:
        run(python, "-I", "-W", "error", program, cwd=folder)
    if wheel.extras:
        run(UV, "pip", "install", "--python", python, f"{wheel.name}[{','.join(wheel.extras)}] @ {wheel.path.as_uri()}")
        run(python, "-I", "-W", "error", "-c", IMPORT_ALL, wheel.module, cwd=folder)
    if wheel.name == COMMAND:
        check_command(python.with_name(f"axone{python.suffix}"), folder)
    tested = ""
    if wheel.name not in ALL_SIBLINGS:
        run(UV, "pip", "install", "--python", python, "pytest", "hypothesis")
        *_, tested = run(python, "-m", "pytest", "-q", f"packages/{wheel.member}/tests").splitlines()
    print(f"{wheel.path.name}: imports, {len(examples)} typed programs {tested}", flush=True)


def check_command(command: Path, folder: Path) -> None:
    """Check that the installed command trains, samples and names itself in the commands that it prints."""
    data, out = folder / "notes.txt", folder / "run"
    data.write_text("to be, or not to be, that is the question\n" * 80, encoding="utf-8")
    listed = run(command, "--help", cwd=folder)
    trained = run(command, "train", "--data", data, "--preset", "tiny", "--steps", "30", "--out", out, cwd=folder)
    sampled = run(command, "sample", out, "--prompt", "to be", "--max-new-tokens", "20", cwd=folder)
    for text, wanted in ((listed, "  sample "), (trained, f"    axone sample {out}"), (sampled, "to be")):
        if wanted not in text:
            raise Fault(f"the output of {command.name} must have {wanted!r}:\n{text}")


def main() -> None:
    """Check every wheel; exit with the first fault."""
    folder = Path(sys.argv[1]).resolve()
    try:
        wheels = build(folder)
        for wheel in wheels.values():
            check(wheel, wheels, folder)
    except Fault as fault:
        sys.exit(str(fault))


if __name__ == "__main__":
    main()
