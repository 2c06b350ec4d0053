"""classnames.txt: what the classes of a folder of photos are called, where that isn't the folder's name."""

import os
from collections.abc import Collection

from basics import UserError, nearest

from .annotations import read_lines

FILE = "classnames.txt"
FORM = "FOLDER<TAB>NAME"


def read_names(folder: str, classes: Collection[str]) -> dict[str, str]:
    """{class folder: class name} of the file in ``folder``; {} without one. Classes that it leaves out keep their folder's name.

    Raises:
        UserError: a line that isn't FOLDER<TAB>NAME, a folder that is no class or stands there twice, a name that two classes
            would have; names file and line.
    """
    path = os.path.join(folder, FILE)
    if not os.path.isfile(path):
        return {}
    names: dict[str, str] = {}
    for place, line in read_lines(path):
        key, _, name = (part.strip() for part in line.lstrip("\ufeff").partition("\t"))
        if not key or not name:
            raise UserError(f"{place}: {line!r} is not of the form {FORM} (one tab between the two)")
        if key not in classes:
            raise UserError(f"{place}: there is no class folder {key!r}{nearest(key, classes)}")
        if key in names:
            raise UserError(f"{place}: {key!r} is given twice")
        names[key] = name
    called: dict[str, str] = {}
    for key in sorted(classes):
        name = names.get(key, key)
        if name in called:
            raise UserError(f"{path}: the classes {called[name]!r} and {key!r} are both called {name!r}; give them two names")
        called[name] = key
    print(f"Class names: {len(names)} of {len(classes)} from {path}")
    return names
