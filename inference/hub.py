"""A finished run on the Hugging Face Hub, and from there into a folder.

    python -m inference.hub push RUN me/eurosat-mocoop [--private]
    python -m inference.hub pull me/eurosat-mocoop FOLDER [--revision COMMIT]

A push takes `results.json` without the places of this machine, the weights that an evaluation would load, a page, and
`files.json` with the SHA-256 of each. A pull takes these files and no others, compares them, and runs nothing.
Exit status: 0 done; 2 something the user can mend.
"""

import contextlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from basics import UserError, home, program, read_json, write_json, write_text
from basics.hashes import file_hash
from basics.identity import FILES
from basics.program import EXIT_STATUSES, Parser
from basics.scores import main_score

from .run import read_run

LIST, CARD, RESULTS = "files.json", "README.md", "results.json"
WEIGHTS = re.compile(r"[\w.-]+/model(-best\.pth\.tar|\.pth\.tar-\d+)")
PLACES = {"OUTPUT_DIR": "run", "DATASET.ROOT": "data"} | dict.fromkeys(("RESUME", "MODEL.BACKBONE.PATH", *FILES), "")


def push(run: str | Path, name: str, private: bool = False, epoch: int | None = None) -> str:
    """Put a finished run into a repository of the Hub, which is made where it doesn't exist.

    Args:
        run: its folder.
        name: organisation/model.
        private: whether a new repository is only for its owner.
        epoch: whose weights; None for the best, else the last.

    Returns:
        The commit's address.

    Raises:
        UserError: not a finished training run; no token, no network, no permission.
    """
    from huggingface_hub import HfApi

    results = read_run(run)
    weights = _weights(Path(run), epoch)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for path in weights:
            (place / path).parent.mkdir(exist_ok=True)
            shutil.copyfile(Path(run) / path, place / path)
        write_json(without_places(results), str(place / RESULTS))
        write_text(card(results, name), str(place / CARD))
        hashes = {path: file_hash(place / path) for path in (RESULTS, CARD, *weights)}
        write_json({"format": "mocoop run 1", "sha256": hashes}, str(place / LIST))
        with in_words(name):
            api = HfApi()
            api.create_repo(name, private=private, exist_ok=True)
            done = api.upload_folder(repo_id=name, folder_path=folder, commit_message=f"{results['trainer']}: a finished run")
    return str(done.commit_url)


def pull(name: str, folder: str | Path, revision: str | None = None) -> dict[str, Any]:
    """Fetch a run that ``push`` has written.

    Args:
        name: organisation/model.
        folder: where it goes; must be new or empty.
        revision: branch, tag or commit; None for the newest.

    Returns:
        Its results.json.

    Raises:
        UserError: no such run, a file that isn't the one that was pushed, no network.
    """
    from huggingface_hub import hf_hub_download

    target = Path(folder)
    if target.exists() and any(target.iterdir()):
        raise UserError(f"{target} isn't empty: a run needs a folder of its own")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".pull-") as place, in_words(name):
        fetched = Path(place) / "run"
        fetch = lambda path: hf_hub_download(name, path, revision=revision, local_dir=fetched)  # noqa: E731
        listed = read_json(fetch(LIST))
        hashes = listed.get("sha256") if isinstance(listed, dict) else None
        if not isinstance(hashes, dict) or RESULTS not in hashes:
            raise UserError(f"{name}: {LIST} isn't as push writes it")
        for path, known in hashes.items():
            if path not in (RESULTS, CARD) and not WEIGHTS.fullmatch(path):
                raise UserError(f"{name}: {LIST} names {path!r}, which is no file of a run")
            if file_hash(fetch(path)) != known:
                raise UserError(f"{name}: {path} isn't the file that was pushed (its SHA-256 is another)")
        results = read_run(fetched)
        shutil.rmtree(fetched / ".cache", ignore_errors=True)  # the Hub's client keeps its notes there
        if target.exists():
            target.rmdir()
        os.replace(fetched, target)
    return results


def _weights(run, epoch):
    """Paths, in the run's folder, of the weights of its best or last epoch, or of ``epoch``."""
    found = sorted(path.relative_to(run).as_posix() for path in run.glob("*/model*"))
    found = [path for path in found if WEIGHTS.fullmatch(path)]
    epochs = sorted({int(path.rpartition("-")[2]) for path in found if not path.endswith("-best.pth.tar")})
    best = [path for path in found if path.endswith("-best.pth.tar")]
    if epoch is None and best:
        return best
    chosen = [path for path in found if epochs and path.endswith(f".tar-{epochs[-1] if epoch is None else epoch}")]
    if not chosen:
        there = f"; there are epochs {', '.join(map(str, epochs))}" if epochs else ""
        raise UserError(f"{run} has no weights{f' of epoch {epoch}' if epoch is not None else ''} to push{there}")
    return chosen


def without_places(results: dict[str, Any]) -> dict[str, Any]:
    """A results.json without paths of this machine: they say nothing elsewhere, and are nobody's business."""
    content: dict[str, Any] = json.loads(json.dumps(results))
    content.pop("folder", None)
    if isinstance(content.get("weights"), dict) and content["weights"].get("file"):
        content["weights"]["file"] = Path(str(content["weights"]["file"])).name
    configs = [content["config"]]
    configs += [known for known in [(content.get("model") or {}).get("trained_with")] if isinstance(known, dict)]
    for config in configs:
        for name, neutral in PLACES.items():
            *sections, key = name.split(".")
            node: Any = config
            for section in sections:
                node = node.get(section) if isinstance(node, dict) else None
            if isinstance(node, dict) and node.get(key):
                node[key] = neutral
    return content


def card(results: dict[str, Any], name: str) -> str:
    """The repository's page: what the run is, and how it is used."""
    word, value = main_score(results.get("metrics") or {}) or ("accuracy", None)
    score = f"{value:.2f} % on the {results.get('split', 'test')} images" if isinstance(value, float) else "not recorded"
    lines = [
        "---", "library_name: mocoop", "tags: [clip, prompt-learning]", "---", "",
        f"# {results['trainer']} on {results['dataset']}", "",
        f"- backbone: {results.get('backbone')}", f"- classes: {len(results['classnames'])} ({results.get('subsample_classes')})",
        f"- images a class: {results.get('shots')}, seed {results.get('seed')}, epochs {results.get('epochs')}",
        f"- {word}: {score}", f"- code: {(results.get('code') or {}).get('commit') or 'unknown commit'}", "",
        "`results.json` has all settings, versions and hashes.", "",
        f"    mocoop hub pull {name} run", "    mocoop predict --model-dir run photos/ --output table.csv", "",
    ]  # fmt: skip
    return "\n".join(lines)


@contextlib.contextmanager
def in_words(name: str) -> Iterator[None]:
    """Turn what the Hub's client raises into a line for users."""
    from huggingface_hub import errors

    try:
        yield
    except UserError:
        raise
    except errors.RepositoryNotFoundError:
        raise UserError(f"{name}: no such repository on the Hub, or it is private and HF_TOKEN has no access to it") from None
    except errors.LocalEntryNotFoundError:  # what the client makes of a Hub that doesn't answer
        raise UserError(f"{name}: the Hub can't be reached (is there a network? HF_ENDPOINT names another one)") from None
    except errors.EntryNotFoundError as error:
        raise UserError(f"{name}: not a run that was pushed from here ({_line(error)})") from None
    except errors.LocalTokenNotFoundError:
        raise UserError("the Hub asks who you are: `hf auth login`, or set HF_TOKEN") from None
    except (errors.HfHubHTTPError, errors.HFValidationError, errors.OfflineModeIsEnabled) as error:
        refused = getattr(getattr(error, "response", None), "status_code", 0) in (401, 403)
        hint = "; `hf auth login`, or an HF_TOKEN that may write there" if refused else ""
        raise UserError(f"{name}: the Hub says: {_line(error)}{hint}") from None
    except Exception as error:
        if not type(error).__module__.startswith(("httpx", "httpcore", "requests", "urllib3")):  # as the client's version has it
            raise
        raise UserError(f"{name}: the Hub can't be reached ({_line(error)})") from None


def _line(error):
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def run(args):
    """Do what the arguments say."""
    print(f"{args.what}: {args.name}", file=sys.stderr, flush=True)
    if args.what == "push":
        print(f"pushed: {push(args.run, args.name, args.private, args.load_epoch)}")
    else:
        results = pull(args.name, args.folder, args.revision)
        print(f"{args.folder}: {results['trainer']} on {results['dataset']}, {len(results['classnames'])} classes")


def main(argv: list[str] | None = None) -> int:
    """Run one command line; returns the exit status."""
    parser = Parser(prog=home.command("hub"), description=__doc__.split("\n\n")[0], epilog=EXIT_STATUSES)
    commands = parser.add_subparsers(dest="what", required=True, metavar="push|pull")
    to_hub = commands.add_parser("push", help="put a finished run into a repository")
    to_hub.add_argument("run", metavar="RUN", help="folder of a finished run (its --output-dir)")
    to_hub.add_argument("name", metavar="ORGANISATION/MODEL")
    to_hub.add_argument("--private", action="store_true", help="a new repository is only for its owner")
    to_hub.add_argument("--load-epoch", type=int, help="epoch whose weights to take (default: the best or last)")
    from_hub = commands.add_parser("pull", help="fetch a run that was pushed")
    from_hub.add_argument("name", metavar="ORGANISATION/MODEL")
    from_hub.add_argument("folder", metavar="FOLDER", help="new or empty")
    from_hub.add_argument("--revision", help="branch, tag or commit (default: the newest)")
    return program.run(lambda: run(parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(program.as_process(main))
