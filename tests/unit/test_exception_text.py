"""The line of the author's own code that an exception is reported for."""

from __future__ import annotations

from pathlib import Path

from kong_pdk.exception_text import traceback_location


def raised_at(*files: Path) -> Exception:
    """An exception that came up in the last of the files, called through the others, each on its second line."""
    call = None
    for file in reversed(files):
        body = "call()" if call else "raise ValueError"
        scope = {"call": call}
        exec(compile(f"def run():\n    {body}\n", str(file), "exec"), scope)
        call = scope["run"]
    try:
        call()
    except ValueError as error:
        return error
    raise AssertionError("nothing was raised")


def test_it_is_the_innermost_in_the_plugin_s_folder(tmp_path):
    plugin, beside, elsewhere = tmp_path / "p" / "a.py", tmp_path / "p" / "b.py", tmp_path / "lib.py"
    assert traceback_location(plugin, raised_at(plugin, beside, elsewhere)) == (beside, 2)


def test_a_folder_whose_name_begins_like_the_plugin_s_is_another(tmp_path):
    plugin, other = tmp_path / "plugins" / "a.py", tmp_path / "plugins-old" / "a.py"
    assert traceback_location(plugin, raised_at(plugin, other)) == (plugin, 2)


def test_an_exception_that_passed_none_of_it_has_no_line(tmp_path):
    plugin = tmp_path / "p" / "a.py"
    assert traceback_location(plugin, raised_at(tmp_path / "lib.py")) == (plugin, None)
