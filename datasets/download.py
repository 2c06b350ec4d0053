"""Downloads datasets into the layout that the readers expect.

    python -m datasets.download EuroSAT dtd --root data

Names are those of the datasets or of their YAML files. What is already there is left alone, a broken download is
continued, and where nothing can be fetched (log-in, dead address) the command says what to get and where to put it.
Archives that you have already can be put in `<root>/downloads`. Exit status: 0 all is there, 2 something is
missing, 130 Ctrl-C.
"""

import os
import sys

from basics import UserError, home, program
from basics.program import Parser

from .fetch import FetchError, fetch, find_on_hub, remove, wrong_checksum
from .layout import find_misplaced
from .names import find_dataset
from .splits import read_split
from .unpack import unpack


class Download:
    """Brings one dataset into place below `root`."""

    def __init__(self, cls, root, keep_archives=False):
        self.cls = cls
        self.root = root
        self.folder = os.path.join(root, cls.dataset_dir)
        self.downloads = os.path.join(root, "downloads")
        self.keep_archives = keep_archives
        self.failures = []

    def run(self):
        """Fetch what is missing.

        Raises:
            UserError: something still is; the message says what failed and what to do.
        """
        misplaced = (
            not os.path.isdir(self.folder) and os.path.isdir(self.root) and find_misplaced(self.folder, self.cls, self.root)
        )
        if misplaced:
            raise UserError(f"{self.cls.__name__}: not fetched, because {misplaced}")
        self.cls.arrange(self.folder)
        for source in self.missing():
            if source in self.missing():  # an earlier archive may have brought it along
                self.fetch_source(source)
        if self.missing():
            self.fetch_from_hub()
        missing = [source.target for source in self.missing()]
        missing += [path for path, _ in self.cls.required if not self.is_there(path) and path not in missing]
        if missing:
            raise UserError(self.explain(missing))
        print(f"{self.cls.__name__}: complete in {self.folder}")

    def is_there(self, target):
        path = os.path.join(self.folder, target)
        return os.path.isfile(path) or (os.path.isdir(path) and bool(os.listdir(path)))

    def missing(self):
        """The sources whose target isn't there and is needed."""
        has_split = self.is_there(self.cls.split_file)
        return [
            source
            for source in self.cls.sources
            if not self.is_there(source.target) and not (source.instead_of_split and has_split)
        ]

    def fetch_source(self, source):
        """Try the addresses of one source; what fails is noted in `failures`."""
        for url in source.urls:
            try:
                if source.anchor:
                    self.fetch_archive(url, source)
                else:
                    self.fetch_file(url, source)
                return
            except FetchError as error:
                self.failures.append(str(error))

    def fetch_file(self, url, source):
        """A single file, checked if it is the split."""
        path = os.path.join(self.folder, source.target)
        print(f"{self.cls.__name__}: fetching {source.target}")
        fetch(url, path, source.checksum)
        if source.target == self.cls.split_file:
            try:
                read_split(path, os.path.join(self.folder, self.cls.image_folder))
            except UserError as error:
                remove(path)
                raise FetchError(f"{url}: {error}") from error

    def fetch_archive(self, url, source, checksum=None, name=None, anchors=None):
        """An archive: from the downloads folder if it is there, else from `url`; unpacked into the layout."""
        path = os.path.join(self.downloads, name or source.file_name)
        checksum = source.checksum if checksum is None else checksum
        if os.path.exists(path):
            found = wrong_checksum(path, checksum)
            if found:
                raise UserError(
                    f"{path}: the checksum is {found}, not {checksum}; it is damaged or another file, "
                    f"delete it and run this command again"
                )
            print(f"{self.cls.__name__}: using {path}")
        else:
            print(
                f"{self.cls.__name__}: fetching {os.path.basename(path)}"
                + ("" if checksum else " (no checksum is published for it)")
            )
            fetch(url, path, checksum)
        unpack(path, self.folder, source.target, anchors or (source.anchor,), source.inner if anchors is None else None)
        if not self.keep_archives:
            remove(path)

    def fetch_from_hub(self):
        """The hub's zip of the whole dataset, where there is one."""
        if self.cls.sources[0].urls and not self.cls.sources[0].anchor:
            return  # only single files are missing: ImageNet, which the hub doesn't have
        names = {
            "".join(c for c in name.lower() if c.isalnum())
            for name in (self.cls.dataset_dir, self.cls.__name__, *self.cls.aliases)
        }
        try:
            found = find_on_hub(names)
            if found is None:
                return
            url, checksum, name = found
            images = self.cls.sources[0]
            checksum = f"sha256:{self.cls.hub_sha256}" if self.cls.hub_sha256 else checksum
            anchors = (images.target, images.anchor or images.target)
            self.fetch_archive(url, images, checksum, f"hub-{name}", anchors)
        except FetchError as error:
            self.failures.append(str(error))

    def explain(self, missing):
        """What is missing, what was tried, what the user can do."""
        parts = [f"{self.cls.__name__}: missing in {self.folder}: {', '.join(missing)}"]
        parts += [f"tried {failure}" for failure in self.failures]
        if self.cls.instructions:
            parts.append(self.cls.instructions.format(folder=self.folder, downloads=self.downloads))
        else:
            archives = [source.file_name for source in self.cls.sources if source.anchor and source.target in missing]
            place = f"the archive {' and '.join(archives)} in {self.downloads}" if archives else f"the files in {self.folder}"
            parts.append(
                f"run the command again to continue, or put {place} and run it again (docs/datasets.md has the addresses)"
            )
        return "; ".join(parts)


def main(argv=None):
    """The command; returns the exit status."""
    return program.run(lambda: download(argv), "; the same command continues")


def download(argv):
    """Fetch the datasets that a command line names, each as far as it goes; 2 if something is missing in the end."""
    parser = Parser(prog=home.command("download"), description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="+", metavar="NAME", help="datasets, e.g. EuroSAT or oxford_pets")
    parser.add_argument("--root", default="data", help="data folder (default: data)")
    parser.add_argument("--keep-archives", action="store_true", help="don't delete archives after unpacking")
    args = parser.parse_args(argv)
    root = os.path.abspath(os.path.expanduser(args.root))
    status = 0
    for name in args.names:
        try:
            cls = find_dataset(name)
            if getattr(cls, "sources", ()):
                Download(cls, root, args.keep_archives).run()
            else:
                print(f"{cls.__name__}: nothing to download")
        except (UserError, OSError) as error:
            status = program.EXIT_USER_ERROR
            program.to_stderr(program.one_line(f"error: {error}"), status)
    return status


if __name__ == "__main__":
    sys.exit(program.as_process(main))
