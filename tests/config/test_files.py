"""Which file counts, and on which line a key stands in it."""

import os
import tomllib
from pathlib import Path

import pytest

from altgrad_inspect.config.files import find_file, find_lines, read_file
from altgrad_inspect.errors import ConfigError


def write_project(folder: Path, text: str = "jobs = 1\n") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "pyproject.toml"
    path.write_text(f"[tool.altgrad-inspect]\n{text}")
    return path


def write_own(folder: Path, text: str = "jobs = 2\n") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "altgrad-inspect.toml"
    path.write_text(text)
    return path


def find_path(start: Path) -> Path | None:
    found = find_file(start)
    return None if found is None else found.path


def test_the_nearest_file_counts(tmp_path: Path) -> None:
    outer = write_project(tmp_path)
    deep = tmp_path / "a" / "b" / "c"
    deep.mkdir(parents=True)
    assert find_path(deep) == outer
    inner = write_project(tmp_path / "a" / "b")
    assert find_path(deep) == inner
    own = write_own(deep)
    assert find_path(deep) == own
    assert find_path(tmp_path / "a") == outer


def test_beside_each_other_the_own_file_wins(tmp_path: Path) -> None:
    write_project(tmp_path)
    own = write_own(tmp_path)
    found = find_file(tmp_path)
    assert found is not None
    assert (found.path, found.table) == (own, {"jobs": 2})


@pytest.mark.parametrize("text", ["", "[tool.ruff]\n", "# altgrad-inspect\n[tool]\n", "broken = ["])
def test_a_project_that_is_not_about_us_is_passed_over(tmp_path: Path, text: str) -> None:
    outer = write_project(tmp_path)
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "pyproject.toml").write_text(text)
    assert find_path(inner) == outer


def test_the_root_of_the_repository_is_the_last_directory(tmp_path: Path) -> None:
    write_project(tmp_path)
    root = tmp_path / "repository"
    inside = root / "package"
    inside.mkdir(parents=True)
    (root / ".git").mkdir()
    assert find_path(inside) is None
    project = write_project(root)
    assert find_path(inside) == project


def test_the_home_directory_is_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_project(tmp_path)
    home = tmp_path / "home"
    inside = home / "work"
    inside.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    assert find_path(inside) is None
    project = write_project(home)
    assert find_path(inside) == project


def test_a_directory_called_like_the_file_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "altgrad-inspect.toml").mkdir()
    project = write_project(tmp_path)
    assert find_path(tmp_path) == project


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("own.toml", "a = 1\nb = [1\nc = 2\n", r"own\.toml:3: is not valid TOML: "),
        ("own.toml", "a = 1\n\na = 2\n", r"own\.toml:3: is not valid TOML: "),
        ("own.toml", "a = 'x\n", r"own\.toml:1: is not valid TOML: "),
        ("own.toml", "a = 1\nb = [", r"own\.toml:2: is not valid TOML: "),
        ("pyproject.toml", "[tool.altgrad-inspect\n", r"pyproject\.toml:1: is not valid TOML"),
        ("pyproject.toml", "[tool.ruff]\n", r"has no table \[tool\.altgrad-inspect\]"),
        ("pyproject.toml", "[tool]\naltgrad-inspect = 3\n", "has no table"),
        ("pyproject.toml", "tool = 3\n", "has no table"),
    ],
)
def test_a_broken_file_is_an_error_with_its_line(
    tmp_path: Path, name: str, text: str, said: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_file(tmp_path / name)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: is not a file"):
        read_file(tmp_path / "nowhere.toml")
    with pytest.raises(ConfigError, match="is not a file"):
        read_file(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="pipe: is not a file"):
        read_file(tmp_path / "pipe")
    path = tmp_path / "bytes.toml"
    path.write_bytes(b"a = '\xff'\n")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        read_file(path)
    path.write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(ConfigError, match="is larger than 1048576 bytes"):
        read_file(path)
    path.write_text("a = " + "[" * 5000)
    with pytest.raises(ConfigError, match="is not valid TOML"):
        read_file(path)


def test_a_byte_order_mark_and_foreign_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_bytes(b"\xef\xbb\xbfjobs = 1\r\n\r\nalpha = 0.5\r\n")
    found = read_file(path)
    assert found.table == {"jobs": 1, "alpha": 0.5}
    assert found.lines == {("jobs",): 1, ("alpha",): 3}


DOCUMENT = '''# a comment
top = 1 # [not.a.header]

[tool.one]   # a header
"quoted key" = "x = 1"
text = """
alpha = 5
[tool.fake]
"""
list = [
  "a",
  ["b"],
]
dotted.inner = 2
inline = { first = 1, second = { third = 3 } }
[[many]]
in_many = 1
[tool."two.three"]

last = 2020-01-01
'''


def test_the_line_of_every_key_is_that_on_which_it_begins() -> None:
    tomllib.loads(DOCUMENT)
    one = ("tool", "one")
    assert find_lines(DOCUMENT) == {
        ("top",): 2,
        ("tool",): 4,
        one: 4,
        (*one, "quoted key"): 5,
        (*one, "text"): 6,
        (*one, "list"): 10,
        (*one, "dotted"): 14,
        (*one, "dotted", "inner"): 14,
        (*one, "inline"): 15,
        (*one, "inline", "first"): 15,
        (*one, "inline", "second"): 15,
        (*one, "inline", "second", "third"): 15,
        ("many",): 16,
        ("many", "in_many"): 17,
        ("tool", "two.three"): 18,
        ("tool", "two.three", "last"): 20,
    }


def test_paths_are_shown_from_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_project(tmp_path / "a", "\njobs = 1\n")
    found = read_file(path)
    assert found.describe(("jobs",)) == f"{path}:3"
    monkeypatch.chdir(tmp_path)
    assert found.describe(("jobs",)) == "a/pyproject.toml:3"
    assert found.describe(("unknown",)) == "a/pyproject.toml:1"
