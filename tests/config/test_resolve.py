"""File and environment become one configuration, checked, with every origin."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

import pytest

from altgrad_inspect.config import SETTINGS, Config, Setting, Source, read_config
from altgrad_inspect.config.values import render_value
from altgrad_inspect.errors import ConfigError
from altgrad_inspect.settings import CheckSettings, OutputSettings, TrendSettings


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(text: str = "", **variables: str) -> Config:
    Path("altgrad-inspect.toml").write_text(text)
    environment = {f"ALTGRAD_INSPECT_{key}": value for key, value in variables.items()}
    return read_config(Path.cwd(), environment)


def values(config: Config) -> Mapping[str, object]:
    return {key: one.value for key, one in config.given.items()}


def another_value(setting: Setting) -> object:
    """A value in range that is not the default."""
    default = setting.default
    special = {
        "device": "cpu",
        "steps": "1:2",
        "quant": ("int8",),
        "out": "elsewhere",
        "half-life": 50.0,
        "tolerance": 0.25,
        "last": 3,
        "jobs": 3,
    }
    if setting.key in special:
        return special[setting.key]
    if setting.kind.is_list:
        return ("one", "two")
    if setting.kind.choices:
        return next(one for one in setting.kind.choices if one != default)
    if isinstance(default, bool):
        return not default
    if isinstance(default, int):
        return default + 1
    assert isinstance(default, float), f"{setting.key}: give it a value in this test"
    return default * 0.9 if default < 1 else default * 1.1


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_every_setting_is_reached_from_the_file_and_the_environment(setting: Setting) -> None:
    value = another_value(setting)
    text = f"{setting.key} = {render_value(value)}"
    from_file = read(text).given[setting.key]
    assert (from_file.value, from_file.source) == (value, Source.FILE)
    assert from_file.origin == "altgrad-inspect.toml:1"
    plain = ",".join(value) if isinstance(value, tuple) else str(value)
    variables = {setting.variable.removeprefix("ALTGRAD_INSPECT_"): plain}
    from_variable = read("", **variables).given[setting.key]
    assert (from_variable.value, from_variable.source) == (value, Source.ENVIRONMENT)
    assert from_variable.origin == setting.variable
    built: object = read(text).build(setting.owner)
    assert built == replace(setting.owner(), **{setting.field: value})
    assert built != setting.owner()


def test_the_environment_wins_over_the_file_over_the_default() -> None:
    config = read("jobs = 2\nalpha = 0.5\n", JOBS="3", LAST="4")
    assert values(config) == {"jobs": 3, "alpha": 0.5, "last": 4}
    assert config.given["jobs"].origin == "ALTGRAD_INSPECT_JOBS"
    assert config.build(TrendSettings) == TrendSettings(alpha=0.5)
    assert config.build(CheckSettings) == CheckSettings()
    assert config.file == Path.cwd() / "altgrad-inspect.toml"


def test_a_list_replaces_the_list_below_it() -> None:
    assert values(read('layers = ["a", "b"]', LAYERS="c")) == {"layers": ("c",)}
    assert values(read('layers = ["a", "b"]', LAYERS="[]")) == {"layers": ()}
    assert read("critical = []").build(TrendSettings).critical_layers == ()


def test_an_empty_variable_counts_as_not_set() -> None:
    assert values(read("jobs = 2", JOBS="", BOGUS="", CONFIG="")) == {"jobs": 2}


def test_dashes_and_underscores_are_the_same() -> None:
    text = "half_life = 5\nfail_on = 'info'\n[rules]\nwarmup_fraction = 0.2\n"
    assert values(read(text)) == {"half-life": 5.0, "fail-on": "info", "rules.warmup-fraction": 0.2}


def test_isolated_reads_nothing() -> None:
    Path("altgrad-inspect.toml").write_text("this is broken")
    environment = {"ALTGRAD_INSPECT_BOGUS": "1", "ALTGRAD_INSPECT_CONFIG": "nowhere"}
    assert read_config(Path.cwd(), environment, isolated=True) == Config()
    with pytest.raises(ConfigError, match="--isolated: ignores every file"):
        read_config(Path.cwd(), {}, isolated=True, file=Path("altgrad-inspect.toml"))


def test_a_named_file_is_the_only_one(tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text("jobs = 7\n")
    third = tmp_path / "third.toml"
    third.write_text("last = 8\n")
    Path("altgrad-inspect.toml").write_text("this is broken")
    variable = {"ALTGRAD_INSPECT_CONFIG": str(third)}
    assert values(read_config(Path.cwd(), {}, file=other)) == {"jobs": 7}
    assert values(read_config(Path.cwd(), variable)) == {"last": 8}
    assert values(read_config(Path.cwd(), variable, file=other)) == {"jobs": 7}
    with pytest.raises(ConfigError, match=r"nowhere: is not a file"):
        read_config(Path.cwd(), {"ALTGRAD_INSPECT_CONFIG": "nowhere"})


def test_paths_of_a_file_are_relative_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = 'run = ["runs/a", "/data/b", "s3://c/d", "~/e"]\nout = "tables"\n'
    monkeypatch.setenv("HOME", "/home/someone")
    here = values(read(text))
    assert here == {
        "run": ("runs/a", "/data/b", "s3://c/d", "/home/someone/e"),
        "out": "tables",
    }
    (tmp_path / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "er")
    there = values(read_config(Path.cwd(), {"ALTGRAD_INSPECT_OUT": "mine"}))
    assert there["run"] == ("../../runs/a", "/data/b", "s3://c/d", "/home/someone/e")
    assert there["out"] == "mine"
    assert read_config(Path.cwd(), {}).build(OutputSettings).out == "../../tables"
    from_flag = read_config(Path.cwd(), {}, file=Path("../../altgrad-inspect.toml"))
    assert from_flag.build(OutputSettings).out == "../../tables"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\nlayer = 'x'", ":2: layer: is not a setting, expected one like layers"),
        ("zzz = 1", ":1: zzz: is not a setting, expected one of those that --show-settings"),
        ('"a\\nb" = 1', r":1: a\\nb: is not a setting"),
        ("warmup-fraction = 0.5", ":1: .*, expected in the table rules .write rules.warmup-fr"),
        ("[rules]\n\nalpha = 0.5", ":3: .*, expected outside of the table rules .write alpha"),
        ("[rules]\nwarmup_fractoin = 1", ":2: .*, expected one like rules.warmup-fraction"),
        (
            "\n[tool.altgrad-inspect]\njobs = 1",
            ":2: tool: .*, expected keys without .tool.altgrad-inspect. in",
        ),
        ("rules = ['rank-drop']", r":1: rules: \[\"rank-drop\"\] is not valid, expected a table"),
        ("half-life = 1\n\nhalf_life = 2", ":3: half-life: is set twice, in .*toml:1 too"),
        ("jobs = 'x'", ':1: jobs: "x" is not valid, expected a whole number'),
        ("\n\njobs = 0", ":3: jobs: 0 is out of range, expected at least 1"),
        ("device = 'tpu'", ":1: device: 'tpu' is out of range, expected auto, cpu, cuda"),
        ("half-life = -1", ":1: half_life: -1.0 is out of range, expected above 0"),
        ("quant = []", r":1: quant: \(\) is out of range, expected at least one quantizer"),
        ("run = ''", r":1: run: .* is out of range, expected at least one name"),
        ("out = ''", r":1: out: '' is out of range"),
        ("verbose = -1", ":1: verbose: -1 is out of range"),
        ("[rules]\nwarmup-fraction = 1", ":2: warmup_fraction: 1.0 is out of range"),
        ("quant = ['e4m3', 'zz']", ":1: quantizer format: 'zz' is not known"),
        ("steps = '1:x'", ":1: --steps '1:x': is not FIRST:LAST:STRIDE"),
        ("layers = ['re:(']", r":1: pattern 're:\(': is no regular expression"),
        ("exclude = ['']", ":1: pattern '': is empty"),
        ("critical = ['re:(']", ":1: pattern"),
        ("trained-layers = ['re:(']", ":1: pattern"),
        ("threshold = 0.5\nalpha = 5", ":2: alpha: 5.0 is out of range"),
        ("threshold = 5\nalpha = 5", ":2: alpha: 5.0 is out of range"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_its_line(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"^altgrad-inspect.toml{said}") as caught:
        read(text)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (
            "JOB",
            "1",
            "ALTGRAD_INSPECT_JOB: is not a setting, expected one like ALTGRAD_INSPECT_JOBS",
        ),
        ("JOBS", "x", 'ALTGRAD_INSPECT_JOBS: "x" is not valid, expected a whole number'),
        ("JOBS", "0", "ALTGRAD_INSPECT_JOBS: jobs: 0 is out of range"),
        ("STEPS", "x", "ALTGRAD_INSPECT_STEPS: --steps 'x': is not"),
        ("QUANT", "zz", "ALTGRAD_INSPECT_QUANT: quantizer format: 'zz' is not known"),
    ],
)
def test_what_is_wrong_in_the_environment_is_said_with_its_variable(
    name: str, value: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{said}"):
        read("", **{name: value})


def test_a_wrong_value_in_a_file_is_wrong_even_if_the_environment_replaces_it() -> None:
    with pytest.raises(ConfigError, match=r"altgrad-inspect\.toml:1: jobs: 0 is out of range"):
        read("jobs = 0", JOBS="2")


def test_a_project_file_has_its_lines_too() -> None:
    Path("pyproject.toml").write_text(
        "[project]\nname = 'x'\n\n[tool.altgrad-inspect]\njobs = 1\n\n"
        "[tool.altgrad-inspect.rules]\nwarmup-fraction = 7\n"
    )
    with pytest.raises(ConfigError, match=r"^pyproject\.toml:8: warmup_fraction: 7\.0 is out"):
        read_config(Path.cwd(), {})


def test_reading_a_configuration_loads_neither_torch_nor_pyarrow() -> None:
    code = (
        "import sys, altgrad_inspect.config\nprint({'torch', 'pandas', 'pyarrow'} & {*sys.modules})"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True, cwd=root
    )
    assert done.stdout == "set()\n"


def test_all_settings_of_trends_are_keys() -> None:
    reached = {one.field for one in SETTINGS.values() if one.owner is TrendSettings}
    assert reached == {field.name for field in fields(TrendSettings)}
