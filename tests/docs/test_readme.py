"""Every command and every Python line of the README runs as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```console\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [
    line.removeprefix("$ ").split("#")[0].split()
    for block in BLOCKS
    for line in block.splitlines()
    if line.startswith("$ altgrad-inspect")
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_of_the_readme_succeeds(command: list[str], tmp_path: Path) -> None:
    program, *arguments = command
    assert program == "altgrad-inspect"
    inside = not any("sample_checkpoints" in argument for argument in arguments)
    if arguments[0] != "ls":
        arguments += ["--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "altgrad_inspect", *arguments],
        cwd=ROOT / "sample_checkpoints" / "faulty" if inside else ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_python_of_the_readme_runs() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", block], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_page_that_is_linked_exists() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_two_commands_are_in_the_readme() -> None:
    assert {"make demo", "make test"} <= {match[0] for match in re.finditer(r"make \w+", README)}
