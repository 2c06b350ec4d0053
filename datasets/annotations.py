"""Readers of the annotation files that datasets come with: text lines and MATLAB files, with errors that name them."""

from basics import UserError


def read_lines(path):
    """Lines of a text file that are neither empty nor a `#` comment.

    Returns:
        List of ("<path>, line <number>", stripped line); the first is for error messages.
    """
    try:
        with open(path, encoding="utf-8") as f:
            lines = [(f"{path}, line {number}", line.strip()) for number, line in enumerate(f, 1)]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    lines = [(place, line) for place, line in lines if line and not line.startswith("#")]
    if not lines:
        raise UserError(f"{path} is empty; download it again")
    return lines


def fields(place, line, n_min, form):
    """The words of a line; UserError if there are fewer than `n_min`. `form` shows what a line should look like."""
    words = line.split()
    if len(words) < n_min:
        raise UserError(f"{place}: {line!r} is not of the form {form!r}")
    return words


def number(place, text):
    """A positive integer; UserError that names the place otherwise."""
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"{place}: expected a class number from 1, but found {text!r}")
    return int(text)


def read_mat(path, key):
    """Variable `key` of a MATLAB file, as scipy gives it (structs keep their nesting).

    Raises:
        UserError: the file is unreadable or lacks the variable.
    """
    from scipy.io import loadmat

    try:
        content = loadmat(path)
    except Exception as error:  # scipy raises many kinds, from ValueError to zlib.error, for a damaged file
        raise UserError(f"cannot read the MATLAB file {path} ({error}); download it again") from error
    if key not in content:
        raise UserError(f"{path} has no variable {key!r}; it is another file than expected, download it again")
    return content[key]
