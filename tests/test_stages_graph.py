"""Faults between the stages of a pipeline are all reported before anything runs, with file and line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from small import CHAIN, small_loop

from vsscli.cli import app
from vsscli.context import Context
from vsscli.errors import VssError
from vsscli.metrics.protocols import PROTOCOLS
from vsscli.recipes.graph import chosen, faults, predictions
from vsscli.recipes.load import load_pipeline
from vsscli.recipes.pipeline import Pipeline
from vsscli.stages.job import open_job
from vsscli.stages.needs import refuse_leaks


def pipeline(**stages: dict[str, object]) -> Pipeline:
    return Pipeline.model_validate({"name": "p", "stages": stages})


def train(**more: object) -> dict[str, object]:
    return {"do": "train", "recipe": "r.yaml", **more}


def predict(model: str, **more: object) -> dict[str, object]:
    return {"do": "predict", "model": model, **more}


def test_a_sound_graph_has_no_faults_and_runs_in_order() -> None:
    graph = pipeline(zip={"do": "submit", "of": "test"}, test=predict("student"), student=train())
    assert faults(graph) == []
    assert chosen(graph) == ["student", "test", "zip"]


def test_an_unknown_stage_is_named_with_the_nearest_that_fits() -> None:
    graph = pipeline(student=train(), students=predict("student"), val=predict("studnet"))
    assert faults(graph) == [
        (("stages", "val", "model"), "there is no stage 'studnet'; did you mean 'student'?"),
    ]


def test_a_circle_is_printed() -> None:
    graph = pipeline(
        a={"do": "train", "recipe": "r", "pseudo": "p"}, v=predict("a"), p={"do": "pseudo", "of": "v"}, b=train()
    )
    assert faults(graph) == [(("stages", "a"), "the stages take each other in a circle: a → p → v → a")]


def test_a_stage_that_takes_itself_is_a_circle() -> None:
    graph = pipeline(a={"do": "ensemble", "of": ["a", "v"]}, v=predict("t"), t=train())
    assert faults(graph) == [(("stages", "a"), "the stages take each other in a circle: a → a")]


def test_fusions_of_fusions_are_looked_through_once() -> None:
    """Each takes the one before it twice: walked one by one, there are 2^40 ways to the predictions."""
    fusions = {f"e{k}": {"do": "ensemble", "of": [f"e{k - 1}"] * 2} for k in range(1, 40)}
    graph = pipeline(t=train(), e0=predict("t"), **fusions)
    assert faults(graph) == []
    assert predictions(graph.stages, "e39") == [graph.stages["e0"]]


def test_a_stage_of_the_wrong_kind_and_one_that_is_optional_are_refused_together() -> None:
    graph = pipeline(
        t=train(),
        extra=train(optional=True),
        v=predict("t"),
        x=predict("extra"),
        z=predict("v"),
        e={"do": "eval", "rows": [{"name": "r", "of": "v"}, {"name": "s", "of": "t"}]},
    )
    assert faults(graph) == [
        (("stages", "x", "model"), "'extra' is optional, so a stage that takes it must be optional too"),
        (("stages", "z", "model"), "'v' is a predict stage, not a train stage"),
        (("stages", "e", "rows", 1, "of"), "'t' is a train stage, not a predict or ensemble stage"),
    ]


def test_the_loader_says_where_all_faults_stand(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(
        "name: p\nstages:\n  t: {do: train, recipe: r}\n  v:\n    do: predict\n    model: tt\n"
        "  e: {do: show, of: t}\n  p: {do: pseudo, of: vv}\n"
    )
    with pytest.raises(VssError) as caught:
        load_pipeline(path)
    assert caught.value.message.splitlines() == [
        f"recipe {path} has 3 faults",
        f"  {path}:6: stages.v.model: there is no stage 'tt'; did you mean 't'?",
        f"  {path}:7: stages.e.of: 't' is a train stage, not a predict or ensemble stage",
        f"  {path}:8: stages.p.of: there is no stage 'vv'; did you mean 'v'?",
    ]


def test_named_stages_run_with_what_they_need_and_optional_ones_only_when_named() -> None:
    graph = pipeline(
        t=train(),
        v=predict("t"),
        extra=train(optional=True),
        x=predict("extra", optional=True),
        show={"do": "show", "of": "v"},
        zip={"do": "submit", "of": "v"},
    )
    assert chosen(graph) == ["t", "v", "show", "zip"]
    assert chosen(graph, ["x"]) == ["extra", "x"]
    assert chosen(graph, until="v") == ["t", "v"]
    assert chosen(graph, until="x") == ["t", "v", "extra", "x"]
    assert chosen(graph, ["zip"], until="v") == ["t", "v"]
    with pytest.raises(VssError, match="has no stage 'shoe'; did you mean 'show'"):
        chosen(graph, ["shoe"])


def test_a_split_that_a_network_learned_from_is_not_scored(tmp_path: Path) -> None:
    plain = "first: {do: predict, model: student}"
    chain = CHAIN.replace(plain, plain.replace("}", ", split: train}"))
    path = small_loop(tmp_path, chain.replace("model: again}", "model: again, split: train}"))
    job = open_job(path, context=Context(tmp_path / "runs"))
    with pytest.raises(VssError) as caught:
        refuse_leaks(job, chosen(job.pipeline))
    lines = caught.value.message.splitlines()
    assert lines[1] == "  stages.scores.rows.0: scores 'train', which 'student' is trained on"
    refuse_leaks(job, chosen(job.pipeline, until="second"))


def test_a_folder_is_known_by_whatever_name_a_recipe_gives_it(tmp_path: Path) -> None:
    chain = CHAIN.replace("{do: predict, model: student}", "{do: predict, model: student, split: train}")
    path = small_loop(tmp_path, chain.replace("model: again}", "model: again, split: train}"))
    job = open_job(path, context=Context(tmp_path / "runs"))
    (tmp_path / "link").symlink_to(job.recipe("student").data.root)
    for root in (f"{job.recipe('student').data.root}/", tmp_path / "link"):
        data = job.recipe("student").data.model_copy(update={"root": str(root)})
        student = job.recipe("student").model_copy(update={"data": data})
        other = replace(job, recipes={**job.recipes, "student": student})
        with pytest.raises(VssError, match="which 'again' is trained on"):
            refuse_leaks(other, chosen(job.pipeline))


def test_what_is_held_out_is_learned_by_no_stage(tmp_path: Path) -> None:
    path = small_loop(tmp_path, CHAIN.replace("stages:", "holdout: unlabelled\nstages:"))
    job = open_job(path, context=Context(tmp_path / "runs"))
    with pytest.raises(VssError, match=r"stages.again: trains on 'unlabelled', which the pipeline holds out"):
        refuse_leaks(job, chosen(job.pipeline))
    refuse_leaks(job, ["student"])


def test_predictions_of_two_splits_are_not_fused() -> None:
    graph = pipeline(
        t=train(),
        v=predict("t"),
        u=predict("t", split="unlabelled"),
        vv={"do": "ensemble", "of": ["v", "v"]},
        mixed={"do": "ensemble", "of": ["vv", "v", "u"]},
    )
    assert faults(graph) == [
        (
            ("stages", "mixed", "of", 2),
            "'u' is of split 'unlabelled', 'vv' of 'val': only predictions of the same frames can be fused",
        )
    ]


def test_values_that_a_stage_would_refuse_hours_later_are_refused_with_their_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = (
        CHAIN.replace("of: [first, second]", "of: [first, second], weights: [0, 0]")
        .replace("metrics: [miou, vc8]", "metrics: [mIuo, MIOU, vc8, vc1, v8]")
        .replace("do: submit, of: fused", "do: submit, of: fused, prefix: ../x")
    )
    path = small_loop(tmp_path, wrong)
    expected = [
        f"{path}:10: stages.fused.weights: all weights are 0",
        f"{path}:13: stages.scores.metrics.0: unknown metric 'miuo'; did you mean miou?",
        f"{path}:13: stages.scores.metrics.4: unknown metric 'v8'; did you mean vc8?",
        f"{path}:17: stages.zip.prefix: prefix '../x' leads out of the folder it is unpacked in",
    ]
    with pytest.raises(VssError) as caught:
        open_job(path, context=Context(tmp_path / "runs"))
    assert [line.strip() for line in caught.value.message.splitlines()[1:]] == expected
    assert app.run(["recipe", "validate", str(path), "--no-files"]) == 2
    assert capsys.readouterr().out.splitlines() == expected


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_table_can_be_counted_in_every_published_way(protocol: str) -> None:
    graph = pipeline(
        t=train(),
        v=predict("t"),
        e={"do": "eval", "protocol": protocol, "metrics": ["mIoU"], "rows": [{"name": "r", "of": "v"}]},
    )
    assert graph.stages["e"].protocol == protocol  # type: ignore[union-attr]
    assert graph.stages["e"].metrics == ("miou",)  # type: ignore[union-attr]


def test_thousands_of_stages_are_refused_and_hundreds_are_ordered(tmp_path: Path) -> None:
    path = tmp_path / "many.yaml"
    chain = "name: many\nstages:\n  s0: {do: train, recipe: demo/student}\n"
    chain += "".join(
        f"  s{number}: {{do: train, recipe: demo/student, init: s{number - 1}}}\n" for number in range(1, 3000)
    )
    path.write_text(chain)
    with pytest.raises(VssError, match="more than 20000 keys and values"):
        load_pipeline(path)
    path.write_text("\n".join(chain.splitlines()[:1002]))
    with pytest.raises(VssError, match="should have at most 300 items"):
        load_pipeline(path)
    path.write_text("\n".join(chain.splitlines()[:302]))
    assert chosen(load_pipeline(path))[-1] == "s299"
