"""Settings from a file, the environment and their defaults, each with where it came from.

keys.py      what can be set, read off the classes of ``altgrad_inspect.settings``
values.py    a value of a file or of the environment, checked against the type of its key
files.py     which file counts, and on which line a key stands in it
resolve.py   `read_config`: all of it together

Flags win over the environment, the environment over the file. Flags are the command
line's business; what is here knows nothing of them. Never imports torch, pandas or pyarrow.
"""

from altgrad_inspect.config.files import File, find_file, read_file
from altgrad_inspect.config.keys import SETTINGS, Setting
from altgrad_inspect.config.resolve import Config, Given, Source, read_config

__all__ = [
    "SETTINGS",
    "Config",
    "File",
    "Given",
    "Setting",
    "Source",
    "find_file",
    "read_config",
    "read_file",
]
