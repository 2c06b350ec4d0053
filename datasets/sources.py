"""Where a dataset's files come from: the table entries that dataset classes hold and `datasets.download` acts on."""

from dataclasses import dataclass

# One zip per dataset (all but ImageNet), split file included; the repository's listing gives names and sha256 sums.
HUB_REPOSITORY = "zhengli97/prompt_learning_dataset"


@dataclass(frozen=True)
class Source:
    """A file of a dataset and where it can be had.

    Attributes:
        target: what is there when it is done: a file or folder, relative to the dataset's folder.
        urls: addresses, tried in turn; `gdrive:ID` is a file on Google Drive. None where no address answers any more.
        checksum: "md5:…" or "sha256:…" in hex; "" where none is published.
        anchor: for an archive: the member (file or folder) that becomes `target`. Whatever lies beside it in the
            archive comes along, whatever the folders above it are called. None: the file is taken as it is.
        inner: name of an archive inside the archive that holds `anchor`.
        archive_name: the archive's file name, where the address doesn't end with it.
        instead_of_split: annotations that only matter where the split file can't be had.
    """

    target: str
    urls: tuple = ()
    checksum: str = ""
    anchor: str | None = None
    inner: str | None = None
    archive_name: str = ""
    instead_of_split: bool = False

    @property
    def file_name(self):
        """Name of the archive in the downloads folder."""
        return self.archive_name or self.urls[0].rpartition("/")[2]


def drive_file(target, drive_id, **kwargs):
    """A single file on Google Drive."""
    return Source(target, (f"gdrive:{drive_id}",), **kwargs)


def classnames_file():
    """ImageNet's `classnames.txt` ("n01440764 tench" per line), which its variants share."""
    return drive_file("classnames.txt", "1-61f_ol79pViBFDG_IDlUQSwoLcn2XXF")
