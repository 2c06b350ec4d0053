"""Tables from finished runs: what each row needs, means, H, averages, what is missing, and formats."""

import json
import pathlib
import subprocess
import sys

import pytest

from basics import home
from basics.program import Parser
from reproduce import facts, recipes, recorded, tables
from reproduce.__main__ import main
from reproduce.document import Block, Cell, Document
from reproduce.experiments import EXPERIMENTS, own_experts, variant_name


def select(name, *options):
    parser = Parser()
    tables.add_arguments(parser.add_subparsers(dest="command"))
    return tables.selection_of(parser.parse_args([name, *options]), EXPERIMENTS[name])


def finish(out, run, accuracy, **more):
    folder = run.directory(out)
    folder.mkdir(parents=True, exist_ok=True)
    known = {"status": "finished", "epochs": 50, "finished_at": "2025-01-01", "config": {}, **more}
    (folder / "results.json").write_text(json.dumps({"metrics": {"accuracy": accuracy}, **known}))


@pytest.fixture
def out(monkeypatch, tmp_path):
    monkeypatch.setenv("OUT", str(tmp_path))
    return tmp_path


def folders(name, *options):
    selection = select(name, *options)
    return {str(run.directory("")) for run in selection.runs()}


def test_tables_share_the_runs_of_the_plain_recipe():
    plain = {
        f"base2new/{part}/eurosat/shots_16/MoCoOp/vit_b16/seed{seed}" for part in ("train_base", "test_new") for seed in (1, 2, 3)
    }
    for table in ("table1", "table2", "table3", "table4", "table5", "table7", "fig4"):
        assert plain <= folders(table, "--datasets", "eurosat"), table
    assert folders("table7", "--methods", "6", "--datasets", "eurosat") == plain  # EuroSAT has six groups of its own
    assert folders("fig4", "--methods", "λ2 = 0", "--datasets", "dtd") == folders(
        "table2", "--methods", "+ L_router", "--datasets", "dtd"
    )


@pytest.mark.parametrize(
    "table, row, variant, switches",
    [
        ("table2", "+ MoE", "router_loss_none-text_loss_none", {"ROUTER_LOSS": "none", "TEXT_LOSS": "none"}),
        ("table2", "+ L_router", "text_loss_none", {"TEXT_LOSS": "none"}),
        ("table2", "+ L_text", "", {}),
        ("table3", "3", "top_k3", {"TOP_K": "3"}),
        ("table4", "random", "grouping_random-grouping_seed2", {"GROUPING": "random", "GROUPING_SEED": "2"}),
        ("table2", "CoOp at τ 0.07", "tau0.07", {"COOP.TAU": "0.07"}),
        ("fig4", "λ1 = 1.5", "lambda_router1.5", {"LAMBDA_ROUTER": "1.5"}),
        ("fig4", "λ2 = 4", "lambda_text4.0", {"LAMBDA_TEXT": "4.0"}),
        ("fig4", "λ2 = 6", "lambda_text6.0", {"LAMBDA_TEXT": "6.0"}),
        ("table5", "mse", "router_loss_mse", {"ROUTER_LOSS": "mse"}),
        ("table7", "3", "experts3", {"TEMPLATES": "templates/experts/eurosat_3.txt"}),
        ("fig4", "λ1 = 0.5", "lambda_router0.5", {"LAMBDA_ROUTER": "0.5"}),
        ("fig4", "λ2 = 5", "", {}),
    ],
)
def test_a_variants_folder_and_switches(table, row, variant, switches):
    for run in select(table, "--methods", row, "--datasets", "eurosat", "--seeds", "2").runs():
        assert run.directory("").parts[-2:] == (f"{run.cfg}-{variant}" if variant else "vit_b16", "seed2")
        keys = {k: f"TRAINER.{k}" if "." in k else f"TRAINER.MOCOOP.{k}" for k in switches}
        assert dict(zip(run.opts[::2], run.opts[1::2])) == {keys[k]: v for k, v in switches.items()}
        command = run.command("data", "/nowhere") if run.kind == "base2new_train" else []
        assert all(value in command for value in switches.values()) or not command


def test_the_ladders_steps_change_one_thing_each():
    names = {recipe: [row.name for row in select("table2", "--recipe", recipe).rows] for recipe in ("paper", "released")}
    assert names["paper"] == ["CoOp", "CoOp at τ 0.07", "+ MoE", "+ L_router", "+ L_text"]
    assert names["released"] == ["CoOp", "+ MoE", "+ L_router", "+ L_text"]  # MoCoOp at CLIP's own temperature, as CoOp


def test_released_recipe_has_its_own_files_and_plain_switches():
    (run, *_) = select("table5", "--methods", "kl", "--datasets", "eurosat", "--recipe", "released").runs()
    assert (run.cfg, run.variant) == ("vit_b16_ep50_released", "router_loss_kl")  # the released code has cross-entropy
    (run, *_) = select("table2", "--methods", "+ L_text", "--datasets", "letters", "--recipe", "released").runs()
    assert (run.cfg, run.variant) == ("builtin_released", "")
    (run, *_) = select("table1", "--methods", "CoOp", "--datasets", "dtd", "--recipe", "released").runs()
    assert run.cfg == "vit_b16_ctxv1"


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("recipe", ["paper", "released"])
def test_every_run_of_every_experiment_has_its_files(name, recipe):
    experiment = EXPERIMENTS[name]
    builtin = ("letters_sketch",) if name == "generalisation" else ("letters", "digits", "textures", "shapes")
    for datasets in (experiment.datasets, builtin):
        selection = select(name, "--datasets", *datasets, "--recipe", recipe)
        for run in selection.runs():
            assert recipes.trainer_file(run.trainer, run.cfg).is_file() and facts.dataset_file(run.dataset).is_file()
            for path in run.opts[1::2]:
                assert not path.startswith("templates/") or (home.PROJECT / path).is_file()


def test_sizes_of_the_grids():
    count = {name: len(select(name).runs()) for name in EXPERIMENTS}
    assert count["table1"] == 11 * 2 * (1 + 5 * 3) and count["table3"] == 4 * 2 * 3 * 3
    assert count["fig3"] == 11 * 4 * 5 * 3 and count["crossdataset"] == 5 * 3 * 11 + 11


def test_few_shot_runs_follow_the_recipe():
    runs = {run.shots: run for run in select("fig3", "--methods", "CoOp", "--datasets", "dtd", "--seeds", "1").runs()}
    assert {n: run.cfg for n, run in runs.items()} == {1: "rn50_ep50", 2: "rn50_ep100", 4: "rn50_ep100", 8: "rn50", 16: "rn50"}


def test_own_settings_name_the_folder_unless_they_are_the_machines():
    options = (
        "--datasets",
        "dtd",
        "--methods",
        "CoOp",
        "CLIP",
        "--seeds",
        "1",
        "--set",
        "OPTIM.MAX_EPOCH",
        "5",
        "--set",
        "MODEL.BACKBONE.PATH",
        "/w/ViT-B-16.pt",
        "--set",
        "TRAINER.MOCOOP.TOP_K",
        "3",
    )
    coop, _, clip, _ = select("table1", *options).runs()
    assert coop.directory("").parts[-2] == "vit_b16_ctxv1-max_epoch5" and clip.directory("").parts[-2] == "vit_b16"
    assert coop.opts == ("OPTIM.MAX_EPOCH", "5", "MODEL.BACKBONE.PATH", "/w/ViT-B-16.pt")
    assert variant_name(("INPUT.SIZE", "(64, 64)")) == "size64_64"


def test_a_setting_that_is_the_recipes_own_names_no_folder():
    """Whatever its spelling; a later pair wins, and one that the recipe doesn't say stays."""
    plain = select("table1", "--datasets", "dtd", "--methods", "CoOp", "MoCoOp", "--seeds", "1").runs()
    of = lambda *pairs: select(  # noqa: E731
        "table1", "--datasets", "dtd", "--methods", "CoOp", "MoCoOp", "--seeds", "1",
        *(word for pair in pairs for word in ("--set", *pair)),
    ).runs()  # fmt: skip
    epochs = str(recorded.wanted(next(iter(plain)))["OPTIM.MAX_EPOCH"])
    assert list(of(("OPTIM.LR", "2e-3"), ("OPTIM.NAME", "sgd"))) == list(plain)
    assert list(of(("OPTIM.MAX_EPOCH", "7"), ("OPTIM.MAX_EPOCH", epochs)))[:2] == list(plain)[:2]  # CoOp's own
    other = list(of(("OPTIM.LR", "0.002"), ("OPTIM.MAX_EPOCH", "7"), ("MODEL.BACKBONE.PATH", "/w/ViT-B-16.pt")))[0]
    assert other.opts == ("OPTIM.MAX_EPOCH", "7", "MODEL.BACKBONE.PATH", "/w/ViT-B-16.pt") and other.variant == "max_epoch7"


def test_own_experts_counts_template_groups():
    assert [own_experts(d) for d in ("caltech101", "eurosat", "ucf101", "oxford_flowers", "letters")] == [5, 6, 6, 5, 8]


def test_table_of_finished_runs(out, capsys):
    selection = select("table2", "--datasets", "EuroSAT", "--methods", "CoOp", "--seeds", "1", "2")
    for run in selection.runs():
        finish(out, run, {"base": 90.0, "new": 60.0}[run.classes] + 2 * (run.seed - 1))
    main(["table2", "--datasets", "eurosat", "--methods", "CoOp", "--seeds", "1", "2", "--format", "json"])
    content = json.loads(capsys.readouterr().out)
    row = content["blocks"][0]["rows"]["CoOp"]
    folders = [str(run.directory(out)) for run in selection.runs() if run.classes == "base"]
    assert row["base"].pop("runs") == folders and set(folders) < set(content["runs"])
    assert row["base"] == {"ours": 91.0, "std": 1.0, "seeds": 2, "difference": pytest.approx(-0.54), "paper": 91.54}
    assert row["H"]["ours"] == pytest.approx(2 * 91 * 61 / 152) and row["H"]["std"] is None
    assert row["mean of H"]["ours"] == pytest.approx((2 * 90 * 60 / 150 + 2 * 92 * 62 / 154) / 2)
    assert row["H"]["paper"] == 68.15 and "68.28" in row["H"]["notes"][0] and content["missing"] == []
    main(["table2", "--datasets", "eurosat", "--methods", "CoOp", "--seeds", "1", "2", "3"])
    text = capsys.readouterr().out
    assert "91.00 ± 1.00 (2/3)" in text and "-0.54" in text and "68.15 [" in text and "\033" not in text
    assert (
        "CoOp: 2 runs missing (eurosat)\n    python -m reproduce table2 --methods CoOp --datasets eurosat --seeds 1 2 3 --run"
    ) in text


def test_average_has_the_h_of_the_averages_and_only_where_all_are_there(out):
    selection = select("table1", "--methods", "CoOp", "--seeds", "1")
    for i, run in enumerate(selection.runs()):
        finish(out, run, 90.0 - i)
    document = selection.document(out, lambda row, runs: "")
    base, new, h, _ = document.blocks[0].rows[0][1]
    assert h.ours == pytest.approx(2 * base.ours * new.ours / (base.ours + new.ours)) and h.paper == 74.60
    (next(iter(selection.runs())).directory(out) / "results.json").unlink()
    document = selection.document(out, lambda row, runs: "")
    assert document.blocks[0].rows[0][1][0].ours is None and document.blocks[2].rows[0][1][0].ours is not None


def test_transfer_has_a_column_for_each_dataset_and_the_average_of_the_targets(out, capsys):
    options = ["--methods", "CoOp", "--datasets", "digits", "shapes", "--seeds", "1", "--format", "json"]
    for run in select("crossdataset", *options[:-2]).runs():
        finish(out, run, {"letters": 90.0, "digits": 60.0, "shapes": 40.0}[run.dataset])
    assert main(["crossdataset", *options]) == 0
    row = json.loads(capsys.readouterr().out)["blocks"][0]["rows"]["CoOp"]
    assert {k: v["ours"] for k, v in row.items()} == {"letters": 90, "digits": 60, "shapes": 40, "average": 50}
    assert select("generalisation", "--datasets", "letters_dark").experiment.source == "letters"


def test_any_other_method_becomes_a_row_and_an_unknown_one_an_error(out, capsys):
    assert [row.trainer for row in select("table1", "--methods", "LinearProbe", "clip").rows] == ["LinearProbe", "ZeroshotCLIP"]
    assert main(["table1", "--methods", "CoOpp"]) == 2
    assert "did you mean CoOp" in capsys.readouterr().err
    assert main(["table7", "--datasets", "dtd"]) == 2
    assert "dtd has no template file for 3 experts" in capsys.readouterr().err


def test_table6_has_the_measured_time(out, capsys):
    folder = out / "inference_time" / "caltech101" / "cpu"
    folder.mkdir(parents=True)
    (folder / "times.json").write_text(json.dumps([{"method": "CoOp", "seconds_per_image": 0.002}]))
    main(["table6", "--methods", "CoOp", "--format", "json"])
    cell = json.loads(capsys.readouterr().out)["blocks"][0]["rows"]["CoOp"]["s a batch"]
    assert cell["ours"] == 0.2 and cell["paper"] == 0.09


@pytest.mark.parametrize("kind", ["text", "markdown", "latex", "csv", "json"])
def test_numbers_chosen_in_the_published_way_are_marked(kind, out, capsys):
    """Whatever was asked for: the record of a run says it."""
    words = ["fig3", "--datasets", "eurosat", "--methods", "TipAdapter", "LinearProbe", "--seeds", "1", "2"]
    by = "the best accuracy on 8,100 validation images"
    for run in select(*words).runs():
        protocol = "published" if run.trainer == "TipAdapter" else "val"
        finish(out, run, 60.0, selection={"protocol": protocol, "by": by}, trainer=run.trainer)
    main([*words, "--format", kind, "--out", str(out / kind)])
    text = (out / kind).read_text()
    assert f"TipAdapter: chosen in the published way, by {by}" in text and "LinearProbe: chosen" not in text


def test_output_files(out, tmp_path, capsys):
    for kind, sign in (("markdown", "| CoOp"), ("latex", r"\toprule"), ("csv", "table2,EuroSAT,CoOp,base")):
        file = tmp_path / "new" / f"t.{kind}"
        assert main(["table2", "--datasets", "eurosat", "--format", kind, "--out", str(file)]) == 0
        assert sign in pathlib.Path(file).read_text()
        assert capsys.readouterr().out == f"written: {file}\n"


def test_colour_on_a_terminal_only():
    cell = Cell(ours=80.0, paper=81.0)
    assert (
        tables.render(Document("table1", "", [Block("D", ("base",), [("CoOp", [cell])])]), "text", colour=True).count(
            "\033[31m-1.00"
        )
        == 1
    )


def test_tables_start_without_torch():
    code = (
        "import sys; from reproduce.__main__ import main; main(['table1', '--paper']); "
        "sys.exit(any(m in sys.modules for m in ('torch', 'dassl.engine', 'dassl.utils', 'trainers', 'ray', 'matplotlib')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=home.PROJECT, stdout=subprocess.DEVNULL).returncode == 0


def test_own_files_and_backbones_choose_runs_and_are_marked(out, capsys):
    words = ["table1", "--datasets", "eurosat", "--methods", "CoOp", "KgCoOp", "--seeds", "1"]
    assert main([*words, "--cfg", "CoOp=vit_b16_ep50_ctxv1", "--backbone", "ViT-B/32", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["caption"].endswith("ViT-B/32")
    coop, kgcoop = found["missing"]
    assert "--cfg CoOp=vit_b16_ep50_ctxv1" in coop["command"] and "--set MODEL.BACKBONE.NAME ViT-B/32" in coop["command"]
    assert "--cfg" not in kgcoop["command"]
    finish(out, next(iter(select(*words, "--cfg", "CoOp=vit_b16_ep50_ctxv1", "--backbone", "ViT-B/32").runs())), 80)
    main([*words, "--cfg", "CoOp=vit_b16_ep50_ctxv1", "--backbone", "ViT-B/32"])
    text = capsys.readouterr().out
    assert "80.00 [a]" in text and "OPTIM.MAX_EPOCH 50 (the recipe: 200)" in text and "ViT-B/32 (the recipe: ViT-B/16)" in text


def test_an_unknown_method_is_named_as_it_was_given(out, capsys):
    assert main(["table1", "--methods", "CoOpp"]) == 2
    error = capsys.readouterr().err
    assert "--methods CoOpp: no such method (did you mean CoOp?" in error and "TRAINER" not in error


@pytest.mark.parametrize("cfg, message", [("MaPLe=x", "MaPLe is none of the methods"), ("nowhere", "no file")])
def test_unknown_own_files_are_refused(cfg, message, out, capsys):
    assert main(["table1", "--datasets", "eurosat", "--methods", "CoOp", "--cfg", cfg]) == 2
    assert message in capsys.readouterr().err
