"""Sphinx extension: the public modules of the four packages and their names, for the API reference.

A public module is one that users import from. Its public names are its `__all__`, or its own definitions where it has none.
Most names are defined in private modules; the reference groups them by these, with each module's docstring above.
"""

import ast
import posixpath
import re
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from importlib import import_module
from inspect import cleandoc, getsource, isclass, isfunction, isroutine, signature
from pathlib import Path
from types import ModuleType

from numpydoc.docscrape import NumpyDocString
from sphinx.application import Sphinx
from sphinx.builders import Builder
from sphinx.util import logging

PUBLIC_MODULES = [
    "axone.autograd",
    "axone.autograd.optim",
    "axone.autograd.extend",
    "axone.autograd.testing",
    "axone.nn",
    "axone.nn.functional",
    "axone.nn.extend",
    "axone.nn.init",
    "axone.nn.scalar",
    "axone.tokenizer",
    "axone.llm",
    "axone.llm.distributed",
]
FIRST = ["value", "tensor", "module", "linear", "protocol", "char", "config", "model", "dataset", "trainer"]


@dataclass
class Section:
    """The public names that one module defines, and its title."""

    title: str
    objects: list[str] = field(default_factory=list)
    data: list[tuple[str, str, str]] = field(default_factory=list)  # name, definition of a type alias, docstring


def public_names(module_name: str) -> dict[str, object]:
    """Return the public names of a module with their values, without submodules."""
    module = import_module(module_name)
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module_name]
    names = getattr(module, "__all__", [name for name in own if not name.startswith("_")])
    return {name: getattr(module, name) for name in names if not isinstance(getattr(module, name), ModuleType)}


def sections(module_name: str) -> list[tuple[str, Section]]:
    """Return the sections of a public module: its own names first, then those of `FIRST`, then by name."""
    found: dict[str, Section] = {}
    for name, value in public_names(module_name).items():
        if isclass(value) or isroutine(value):
            found.setdefault(value.__module__, Section(title(value.__module__))).objects.append(name)
        else:
            defined_in, definition, text = _definition(module_name, name)
            found.setdefault(defined_in, Section(title(defined_in))).data.append((name, definition, text))

    def order(section: tuple[str, Section]) -> tuple[bool, int, str]:
        last = section[0].rpartition(".")[2]
        return section[0] != module_name, FIRST.index(last) if last in FIRST else len(FIRST), section[0]

    return sorted(found.items(), key=order)


def title(module_name: str) -> str:
    """Return the subject of a module's docstring, because users cannot import a private module: its first line up to a colon."""
    headline = (sys.modules[module_name].__doc__ or module_name).partition("\n")[0]
    return headline.partition(":")[0].rstrip(".")


def classes() -> dict[str, str]:
    """Return the full name of each public class, so that types in docstrings become links."""
    return {
        name: f"{module}.{name}"
        for module in reversed(PUBLIC_MODULES)
        for name, value in public_names(module).items()
        if isclass(value)
    }


def file_names() -> dict[str, str]:
    """Return file names for functions that differ from a class only in case: some file systems ignore case."""
    both = classes().values()
    functions = {f"{module}.{name}" for module in PUBLIC_MODULES for name in public_names(module)} - set(both)
    return {name: f"{name}-function" for name in functions if name.lower() in {taken.lower() for taken in both}}


def _definition(module_name: str, name: str) -> tuple[str, str, str]:
    """Return the module of a constant or type alias, the definition of an alias, and the docstring below it."""
    package = ".".join(module_name.split(".")[:2])
    for candidate in sorted(sys.modules):
        if candidate == package or candidate.startswith(f"{package}."):
            body = ast.parse(getsource(sys.modules[candidate])).body
            for statement, below in zip(body, [*body[1:], None], strict=True):
                match statement, below:
                    case (
                        ast.AnnAssign(ast.Name(found), ast.Name(kind), ast.expr() as value),
                        ast.Expr(ast.Constant(str(text))),
                    ) if found == name:
                        return candidate, ast.unparse(value) if kind == "TypeAlias" else "", cleandoc(text)
                    case ast.AnnAssign(ast.Name(found)) | ast.Assign([ast.Name(found)]), ast.Expr(
                        ast.Constant(str(text))
                    ) if found == name:
                        return candidate, "", cleandoc(text)
    logging.getLogger(__name__).warning("%s.%s has no docstring below its definition", module_name, name)
    return module_name, "", ""


def _set_public_module(_app: Sphinx, builder: Builder) -> None:
    """Set `__module__` of public names to the public module, and of other names to none.

    The coverage builder counts what a module defines, whether or not its name is in `__all__`.
    """
    if builder.name == "coverage":
        for module in PUBLIC_MODULES:
            public = public_names(module)
            for name, value in {**vars(import_module(module)), **public}.items():
                if isclass(value) or isroutine(value):
                    if name in public:
                        value.__module__ = module
                    elif value.__module__ == module:
                        value.__module__ = ""


def _process_docstring(_app: Sphinx, what: str, _name: str, obj: object, _options: object, lines: list[str]) -> None:
    """Add the module's references to names without any, and escape what reST would take for markup."""
    if what in {"class", "exception", "function"} and "References" not in lines:
        sources = NumpyDocString(cleandoc(sys.modules[obj.__module__].__doc__ or ""))["References"]
        lines += ["", "References", "----------", *sources] if sources else []
    if (
        what == "method" and isfunction(obj) and "." not in obj.__qualname__
    ):  # a function that is a method of Tensor, too
        lines[:] = _without_parameter(next(iter(signature(obj).parameters)), lines)
    # An initial or a dimension at the start of a line is not a list item; the dot of a product does not end a sentence.
    initial = re.compile(r"^(\s*(?:\.\. \[\d+\] )?)([A-Z]\.)(?= |$)")
    lines[:] = [initial.sub(r"\1\\\2", line).replace(" . ", " · ") for line in lines]


def _without_parameter(name: str, lines: list[str]) -> list[str]:
    """Return a function's docstring as that of a method: without the parameter that is the object."""
    lines = [line.replace(f"`{name}`", "this Tensor") for line in lines]
    if "Parameters" not in lines:
        return lines
    begin = lines.index("Parameters") + 2
    ends = [i for i in range(begin, len(lines) - 1) if set(lines[i + 1]) == {"-"}]
    end = ends[0] if ends else len(lines)
    kept, removing = list[str](), False
    for line in lines[begin:end]:
        names, colon, kind = line.partition(" : ")
        if colon and not line.startswith(" "):
            others = [each for each in names.split(", ") if each != name]
            removing = not others
            kept += [f"{', '.join(others)} : {kind}"] if others else []
        elif not removing or not line:
            kept.append(line)
    return [*lines[: begin - 2], *(["Parameters", "----------", *kept] if any(kept) else []), *lines[end:]]


def _process_signature(
    _app: Sphinx, what: str, _name: str, obj: object, _options: object, signature: str | None, _returns: str | None
) -> tuple[str, None] | None:
    """Show a Protocol without arguments, and functions without `**unknown`, which only raises an error."""
    if what == "class" and getattr(obj, "_is_protocol", False):
        return "", None
    return (signature.replace(", **unknown", ""), None) if signature and ", **unknown" in signature else None


def _remove_old_pages(app: Sphinx) -> None:
    """Remove the pages of modules, which may list deleted names, and those of deleted names; autosummary keeps both."""
    names = {f"{module}.{name}" for module in PUBLIC_MODULES for name in public_names(module)}
    pages = {file_names().get(name, name) for name in names}
    for page in Path(app.srcdir, "api/generated").glob("*.rst"):
        if page.stem not in pages:
            page.unlink()


def _correct_source_page(app: Sphinx, page: str, _template: str, context: dict[str, str], _doctree: object) -> None:
    """Correct links from sources to the reference: viewcode takes one public module for all names of a source file."""
    if not page.startswith("_modules/"):
        return
    anchors = defaultdict[str, list[str]](list)
    for _name, _shown, _kind, docname, anchor, _priority in app.env.get_domain("py").get_objects():
        anchors[docname].append(anchor)

    def corrected(link: re.Match[str]) -> str:
        folder, name = posixpath.dirname(page), link["anchor"]
        found = anchors[posixpath.normpath(posixpath.join(folder, link["page"]))]
        while name and name not in found and not any(anchor.endswith(f".{name}") for anchor in found):
            name = name.partition(".")[2]
        anchor = next((each for each in found if each == name or each.endswith(f".{name}")), link["anchor"])
        return f'{link["before"]}{link["page"]}.html#{anchor}"'

    link = re.compile(r'(?P<before><a class="viewcode-back" href=")(?P<page>[^"#]+)\.html#(?P<anchor>[^"]+)"')
    context["body"] = link.sub(corrected, context["body"]).replace('<li><a href="builtins.html">builtins</a></li>', "")


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("builder-inited", _remove_old_pages, priority=100)  # before autosummary reads them
    app.connect("autodoc-process-docstring", _process_docstring, priority=100)  # before numpydoc
    app.connect("autodoc-process-signature", _process_signature, priority=900)  # after numpydoc
    app.connect("write-started", _set_public_module)
    app.connect("html-page-context", _correct_source_page)
    return {"parallel_read_safe": True}
