"""Headers made to be expensive: refused or read in little time and memory."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.checkpoints.header_corpus import build_file

_SIZE = 24_900_000
_ONE = '"dtype":"U8","shape":[1],"data_offsets":[0,1]'


def fill(prefix: str, unit: str, suffix: str) -> str:
    return prefix + unit * ((_SIZE - len(prefix) - len(suffix)) // len(unit)) + suffix


def many_tensors(extra: str = "") -> str:
    shape = '"dtype":"BF16","shape":[4,8]'
    return (
        "{"
        + ",".join(
            f'"layers.{i}.w":{{{shape},"data_offsets":[{64 * i},{64 * i + 64}]{extra}}}'
            for i in range(199_999)
        )
        + "}"
    )


BOMBS = {
    "arrays": fill(f'{{"a":{{{_ONE},"x":[', "[],", "0]}}"),
    "deep": fill(f'{{"a":{{{_ONE},"x":', "[", ""),
    "shape": fill('{"a":{"dtype":"U8","shape":[', "1,", '1],"data_offsets":[0,1]}}'),
    "digits": fill('{"a":{"dtype":"U8","shape":[', "9", '],"data_offsets":[0,1]}}'),
    "metadata": '{"__metadata__":{' + ",".join(f'"{i}":""' for i in range(2_000_000)) + "}}",
    "name": fill('{"', "a", f'":{{{_ONE}}}}}'),
    "escapes": fill('{"', "\\u0041", f'":{{{_ONE}}}}}'),
    "blanks": fill("{", " ", "}"),
    "tensors": many_tensors(),
    "tensors-with-extras": many_tensors(',"x":0'),
    "duplicates": fill("{", f'"a":{{{_ONE}}},', f'"a":{{{_ONE}}}}}'),
}

# Peak memory is that of a process of its own, over what it had before reading.
_PROGRAM = """
import sys, time
from altgrad_inspect.checkpoints.header import read_header
from altgrad_inspect.errors import HeaderError
from altgrad_inspect.storage.local import LocalReader

def peak_mb():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024

before, start = peak_mb(), time.process_time()
try:
    with LocalReader(sys.argv[1]) as reader:
        outcome = len(read_header(reader).tensors)
except HeaderError as error:
    outcome = len(str(error))
assert "torch" not in sys.modules
print(peak_mb() - before, time.process_time() - start, outcome)
"""


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_costs_little_time_and_memory(bomb: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(build_file(BOMBS[bomb]))
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(path)], capture_output=True, text=True, check=True
    )
    memory_mb, seconds, outcome = (float(word) for word in done.stdout.split())
    assert memory_mb < 300
    assert seconds < 2.0
    assert outcome < 1000
