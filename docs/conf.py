"""Configuration of Sphinx: `uv run --group docs sphinx-build -W -n docs docs/_build/html` builds the pages offline."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import public_modules  # noqa: E402 - is beside this file
from numpydoc.xref import DEFAULT_LINKS  # noqa: E402

project = "Axone"
author = "The Axone authors"
copyright = author
exclude_patterns = ["_build", "story", "gallery/**/*.py", "gallery/**/*.ipynb"]
templates_path = ["_templates"]
extensions = [
    "diagrams",
    "mathml",
    "myst_parser",
    "numpydoc",
    "play_weights",
    "public_modules",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.coverage",
    "sphinx.ext.intersphinx",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
default_role = "code"  # single backticks name things; they are links only where a role says so
nitpicky = True

# The API reference: autosummary writes a page for each public name of each public module.
autosummary_context = {"sections": {name: public_modules.sections(name) for name in public_modules.PUBLIC_MODULES}}
autosummary_filename_map = public_modules.file_names()
autosummary_ignore_module_all = False
autosummary_imported_members = True
autodoc_member_order = "groupwise"
autodoc_typehints = "none"  # types and shapes are in the sections on parameters, as in NumPy's own reference
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
suppress_warnings = ["ref.citation"]  # sources are listed under References whether or not the text points to them
coverage_modules = public_modules.PUBLIC_MODULES
coverage_ignore_modules = [rf"(?!({'|'.join(public_modules.PUBLIC_MODULES)})$)"]
coverage_show_missing_items = True
numpydoc_xref_param_type = True
numpydoc_xref_ignore = "all"  # except the aliases below: shapes are not names, and `int` needs no link
numpydoc_xref_aliases = (
    {name: name for name in DEFAULT_LINKS}
    | {"array_like": ":class:`array_like <numpy.typing.ArrayLike>`", "dtype": ":class:`dtype <numpy.dtype>`"}
    | {"ndarray": "numpy.ndarray", "numpy.random.Generator": ":class:`numpy.random.Generator`"}
    | {"Path": "pathlib.Path", "path-like": ":class:`path-like <os.PathLike>`"}
    | public_modules.classes()
)
numpydoc_show_class_members = False  # the class template shows them, on one page
numpydoc_validation_checks = {"GL08", "PR02", "PR10"}

# Links to NumPy and Python without a network: hand-written lists of the names in the signatures.
intersphinx_mapping = {
    name: (url, str(HERE / f"_inventory/{name}.txt"))
    for name, url in {"numpy": "https://numpy.org/doc/stable/", "python": "https://docs.python.org/3/"}.items()
}

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

sphinx_gallery_conf = {
    "examples_dirs": "story",
    "gallery_dirs": "gallery",
    "filename_pattern": "/",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "backreferences_dir": "gallery/backreferences",
    "doc_module": ("axone",),
    "reset_modules": ("matplotlib", "figures.reset"),
    "download_all_examples": False,
    "write_computation_times": False,
    "show_signature": False,
}

html_math_renderer = "mathml"
html_theme = "pydata_sphinx_theme"
html_title = "Axone"
html_static_path = ["_static", "_generated"]
(HERE / "_generated").mkdir(exist_ok=True)  # play_weights fills it later
html_css_files = ["axone.css"]
html_favicon = "_static/axone.svg"
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "Axone", "image_light": "_static/axone.svg", "image_dark": "_static/axone.svg"},
    "header_links_before_dropdown": 6,
    "shorten_urls": False,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars = {"index": [], "architecture": [], "changelog": [], "words": [], "play/index": []}
