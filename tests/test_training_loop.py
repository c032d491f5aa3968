"""Training as a whole: it learns, it can be killed, and several processes learn what one does."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_process import Running, kill_training, lines_of, vss
from listener import Listener
from share_samples import save_shared
from small import read_journal, small_recipe, train, write_recipe
from store_crashes import dead_process, part_of

from vsscli.errors import VssError
from vsscli.models.checkpoints import load_checkpoint, save_checkpoint
from vsscli.models.network import Normalisation
from vsscli.training import loop
from vsscli.training.loop import Loop
from vsscli.training.step import Stepper


def losses(run: Path) -> list[float]:
    return [float(line["loss"]) for line in read_journal(run / "journal.jsonl") if line.get("loss") is not None]  # type: ignore[arg-type]


def test_the_loss_falls(tmp_path: Path) -> None:
    result = train(small_recipe(tmp_path / "data", steps=30, lr=3e-3), tmp_path / "run")
    values = losses(tmp_path / "run")
    assert len(values) == 30
    lines = [line for line in read_journal(tmp_path / "run" / "journal.jsonl") if "loss" in line]
    assert all(0.0 < line["network_share"] <= 1.0 - 0.99 * line["data_time"] / line["step_time"] for line in lines)
    assert sum(values[-5:]) < 0.7 * sum(values[:5])
    assert 0.0 < result.figures["miou"] <= 1.0  # type: ignore[operator]
    assert load_checkpoint(result.best, weights=False).training is None


def test_a_finished_run_is_kept_and_another_one_is_not_overwritten(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path / "data", steps=2)
    first = train(recipe, tmp_path / "run")
    stamp = first.last.stat().st_mtime_ns
    again = train(recipe, tmp_path / "run")
    assert again == first
    assert first.last.stat().st_mtime_ns == stamp
    other = small_recipe(tmp_path / "data", steps=4)
    with pytest.raises(VssError, match="holds a run"):
        train(other, tmp_path / "run")
    with pytest.raises(VssError, match=r"train\.steps was 2 and is 4"):
        train(other, tmp_path / "run", resume=True)
    with pytest.raises(VssError, match="exclude each other"):
        train(other, tmp_path / "run", resume=True, force=True)
    # What was being written when a process was killed is cleared by the next run, what a living one writes is not.
    dead, alive = (part_of(tmp_path / "run" / "last.pt", number) for number in (dead_process(), os.getppid()))
    dead.write_bytes(b"half")
    alive.write_bytes(b"half")
    assert train(other, tmp_path / "run", force=True).trained_steps == 4
    assert not dead.exists()
    assert alive.exists()


def test_a_run_goes_on_from_the_shares_of_several_processes(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path / "data", steps=6, ema=0.9)
    undisturbed = train(recipe, tmp_path / "undisturbed")
    out = tmp_path / "run"
    with pytest.MonkeyPatch.context() as stopped:
        stopped.setattr(Loop, "_is_validated", lambda self: False)
        stopped.setattr(Loop, "_save", stop_in_shares)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, out)
    (out / "last.pt.shares").rename(tmp_path / "forgotten")
    with pytest.raises(VssError, match=r"is in shares, and .* is missing"):
        train(recipe, out, resume=True)
    (tmp_path / "forgotten").rename(out / "last.pt.shares")
    again = train(recipe, out, resume=True)
    assert again.last.read_bytes() == undisturbed.last.read_bytes()
    assert losses(out) == losses(tmp_path / "undisturbed")
    assert not (out / "last.pt.shares").exists()


def test_a_run_from_scratch_removes_the_shares_of_the_one_before(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path / "data", steps=2)
    done = train(recipe, tmp_path / "run")
    save_shared(done.last, load_checkpoint(done.last))
    train(recipe, tmp_path / "run", force=True)
    assert not (tmp_path / "run" / "last.pt.shares").exists()


def stop_in_shares(training: Loop) -> None:
    """Save as three processes would, and stop there."""
    whole = training.last.with_name("whole.pt")
    training._write(whole, resumable=True)
    save_shared(training.last, load_checkpoint(whole))
    whole.unlink()
    raise KeyboardInterrupt


@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_run_resumes_bit_for_bit(tmp_path: Path, workers: int) -> None:
    recipe = small_recipe(tmp_path / "data", steps=8, workers=workers, ema=0.9, accumulate=2)
    undisturbed = train(recipe, tmp_path / "undisturbed")
    path = write_recipe(tmp_path / "recipe.yaml", recipe)
    options = ["--recipe", str(path), "--out", str(tmp_path / "run")]
    kill_training(options, tmp_path / "run" / "journal.jsonl", lines=3)
    done = vss("train", "--recipe", path, "--out", tmp_path / "run", "--resume", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 8
    ours, theirs = load_checkpoint(tmp_path / "run" / "last.pt"), load_checkpoint(undisturbed.last)
    assert ours.fingerprint == theirs.fingerprint
    assert ours.training is not None
    assert theirs.training is not None
    assert all(torch.equal(tensor, theirs.training["raw"][name]) for name, tensor in ours.training["raw"].items())
    assert losses(tmp_path / "run") == losses(tmp_path / "undisturbed")


def test_a_first_interrupt_ends_the_step_and_leaves_a_checkpoint(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path / "data", steps=4000, checkpoint_every=4000)
    path = write_recipe(tmp_path / "recipe.yaml", recipe)
    training = Running("train", "--recipe", path, "--out", tmp_path / "run", cwd=tmp_path)
    training.wait_until(lambda: lines_of(tmp_path / "run/journal.jsonl"))
    training.process.send_signal(signal.SIGINT)
    code, talk = training.end()
    assert code == 130
    assert "interrupted" in talk
    assert "Traceback" not in talk
    steps = load_checkpoint(tmp_path / "run" / "last.pt", weights=False).step
    assert 0 < steps < 4000


def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    # Without dropout, whose draws differ between processes; void differs between their crops.
    recipe = small_recipe(tmp_path / "data", steps=3)
    recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"dropout": 0.0})})
    path = write_recipe(tmp_path / "recipe.yaml", recipe)
    for devices in (1, 2):
        where = ("--out", tmp_path / f"run{devices}", "--device", "cpu", "--devices", str(devices))
        done = vss("train", "--recipe", path, *where, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "run2") == pytest.approx(losses(tmp_path / "run1"), abs=1e-5)


def test_damaged_training_data_is_named_before_the_first_step(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path / "data", steps=2)
    train(recipe, tmp_path / "run")
    video = (tmp_path / "data" / "train.txt").read_text().split()[0]
    image = next((tmp_path / "data" / "data" / video / "origin").glob("*.jpg"))
    image.write_bytes(image.read_bytes()[:200])
    with pytest.raises(VssError, match=image.name):
        train(recipe, tmp_path / "run2")
    assert not (tmp_path / "run2" / "last.pt").exists()


def test_a_checkpoint_finds_the_data_it_was_trained_on_again(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path / "elsewhere", steps=1)
    run = train(recipe, tmp_path / "run", data_root=tmp_path / "data")
    assert load_checkpoint(run.last, weights=False).recipe["data"]["root"] == str(tmp_path / "data")
    done = vss("predict", "--model", run.last, "--out", tmp_path / "p.zarr", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["predicted"] == 24
    assert not (tmp_path / "elsewhere").exists()


def diverge(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Let the weights of every run become NaN in one of its steps."""
    taken = Stepper.step

    def step(self: Stepper, batches: Any, **how: Any) -> Any:
        answer = taken(self, batches)
        if self.state.step == at:
            with torch.no_grad():
                next(self.state.learner.parameters()).fill_(torch.nan)
        return answer

    monkeypatch.setattr(Stepper, "step", step)


@pytest.mark.parametrize("validate_every", [0, 5])
def test_weights_that_are_not_finite_never_replace_a_sound_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, validate_every: int
) -> None:
    # The loss is checked in step 8 only, after the checkpoint of step 6.
    settings = {"steps": 8, "log_every": 8, "checkpoint_every": 2, "validate_every": validate_every}
    diverge(monkeypatch, at=5)
    with pytest.raises(VssError, match=f"NaN at step {validate_every or 6}") as caught:
        train(small_recipe(tmp_path / "data", **settings), tmp_path / "run")
    assert "last.pt is of step 4" in caught.value.hint
    checkpoint = load_checkpoint(tmp_path / "run" / "last.pt")
    assert checkpoint.step == 4
    assert all(tensor.isfinite().all() for tensor in checkpoint.weights.values())
    assert not (tmp_path / "run" / "best.pt").exists()


def test_a_run_that_is_asked_to_stop_after_it_diverged_leaves_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    diverge(monkeypatch, at=3)
    diverged = Stepper.step

    def step(self: Stepper, batches: Any, **how: Any) -> Any:
        answer = diverged(self, batches)
        if self.state.step == 3:
            signal.raise_signal(signal.SIGINT)
        return answer

    monkeypatch.setattr(Stepper, "step", step)
    with pytest.raises(VssError, match="NaN at step 3") as caught:
        train(small_recipe(tmp_path / "data", log_every=6, checkpoint_every=6), tmp_path / "run")
    assert "no checkpoint" in caught.value.hint
    assert not (tmp_path / "run" / "last.pt").exists()


def test_clipping_leaves_gradients_that_are_not_finite_to_the_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    diverge(monkeypatch, at=2)
    with pytest.raises(VssError, match="the loss is nan at step 3"):
        train(small_recipe(tmp_path / "data", clip=1.0, checkpoint_every=6), tmp_path / "run")


def test_a_stop_during_the_last_validation_is_obeyed_once_the_run_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = loop.validate

    def validate(*what: Any) -> dict[str, float | None]:
        signal.raise_signal(signal.SIGINT)
        return real(*what)

    monkeypatch.setattr(loop, "validate", validate)
    recipe = small_recipe(tmp_path / "data", steps=2)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "run")
    monkeypatch.undo()
    heard = Listener()
    assert train(recipe, tmp_path / "run", resume=True, talk=heard).trained_steps == 2
    assert any("is finished (2 steps)" in text for text in heard.said)


@pytest.mark.parametrize("asked", [0, 2])
def test_a_split_that_is_trained_on_is_validated_on_only_when_asked_for(tmp_path: Path, asked: int) -> None:
    recipe = small_recipe(tmp_path / "street", steps=2, validate_every=asked)
    data = recipe.data.model_copy(update={"train": ("train", "val")})
    listener = Listener()
    result = train(recipe.model_copy(update={"data": data}), tmp_path / "run", talk=listener)
    assert result.last.is_file()
    assert result.best.is_file() == bool(asked) == ("miou" in result.figures)
    assert any("'val' is" in line and "trained" in line for line in (listener.warned if asked else listener.said))


def test_a_checkpoint_whose_images_were_normalised_otherwise_is_no_start(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path / "data", steps=1)
    checkpoint = load_checkpoint(train(recipe, tmp_path / "run").last)
    checkpoint.normalisation = Normalisation((100.0,) * 3, (50.0,) * 3)
    save_checkpoint(tmp_path / "other.pt", checkpoint)
    with pytest.raises(VssError, match=r"mean and .* \(100\.0, 100\.0, 100\.0\)"):
        train(recipe, tmp_path / "other", init=tmp_path / "other.pt")


def test_one_crop_of_one_cell_is_refused_before_the_first_step(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path / "data", batch_size=1)
    recipe = recipe.model_copy(update={"augment": recipe.augment.model_copy(update={"crop": (32, 32)})})
    with pytest.raises(VssError, match=r"augment\.crop: .*crop of 32x32 .*batch norm"):
        train(recipe, tmp_path / "run")


class TestData:
    """A run knows the data that it learned from."""

    @pytest.fixture
    def begun(self, tmp_path: Path) -> Path:
        train(small_recipe(tmp_path / "data", steps=4), tmp_path / "run", device="cpu")
        return tmp_path

    def again(self, folder: Path, talk: Listener | None = None, *, resume: bool = False, **settings: object) -> int:
        recipe = small_recipe(folder / "data", steps=4, **settings)
        return train(recipe, folder / "run", device="cpu", resume=resume, talk=talk or Listener()).trained_steps

    def test_frames_that_came_are_said_with_the_remedy(self, begun: Path) -> None:
        for part, suffix in (("origin", "jpg"), ("mask", "png")):
            folder = begun / "data/data/train-000" / part
            shutil.copy(folder / f"00005.{suffix}", folder / f"00006.{suffix}")
        for resume in (False, True):
            with pytest.raises(VssError, match="split 'labelled' had 12 frames and has 13") as caught:
                self.again(begun, resume=resume)
            assert "--force" in caught.value.hint

    def test_a_mask_corrected_in_place_is_noticed_and_a_touched_one_is_none(self, begun: Path) -> None:
        mask = begun / "data/data/train-000/mask/00003.png"
        mask.touch()
        assert self.again(begun) == 4
        shutil.copy2(mask.with_name("00004.png"), mask)
        with pytest.raises(VssError, match=r"masks of split .* have changed"):
            self.again(begun)

    def test_masks_of_validation_decide_no_weight(self, begun: Path) -> None:
        mask = next((begun / "data/data").glob("val-*/mask/00003.png"))
        shutil.copy2(mask.with_name("00014.png"), mask)
        assert self.again(begun) == 4

    def test_a_run_of_an_earlier_version_is_kept_with_a_word(self, begun: Path) -> None:
        checkpoint = load_checkpoint(begun / "run/last.pt")
        checkpoint.inputs = {}
        save_checkpoint(begun / "run/last.pt", checkpoint)
        listener = Listener()
        assert self.again(begun, listener) == 4
        assert "did not record the frames and masks it learned from" in listener.warned[0]

    def test_what_decides_no_weight_may_change(self, tmp_path: Path) -> None:
        recipe = small_recipe(tmp_path / "data", steps=4)
        path = write_recipe(tmp_path / "recipe.yaml", recipe)
        options = ["--recipe", str(path), "--out", str(tmp_path / "run"), "--set", "train.steps=100000"]
        kill_training(options, tmp_path / "run/journal.jsonl", 4)
        listener = Listener()
        changed = small_recipe(tmp_path / "data", steps=100_000, log_every=3, workers=1, checkpoint_every=5)
        with pytest.raises(VssError, match="steps was 100000 and is 7"):
            train(small_recipe(tmp_path / "data", steps=7), tmp_path / "run", device="cpu", resume=True)

        class Enough(Exception):
            pass

        def stop(*_: object, **__: object) -> None:
            raise Enough

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Stepper, "step", stop)
            with pytest.raises(Enough):
                train(changed, tmp_path / "run", device="cpu", resume=True, talk=listener)
        assert any("continuing" in line for line in listener.said)


def test_two_processes_do_not_train_in_one_folder(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "recipe.yaml", small_recipe(tmp_path / "data", steps=100_000))
    options = ["--recipe", str(recipe), "--out", str(tmp_path / "run")]
    first = Running("train", *options, "--quiet", cwd=tmp_path)
    first.wait_until(lambda: lines_of(tmp_path / "run/journal.jsonl"))
    try:
        for also in ("--resume", "--force"):
            refused = vss("train", *options, also, cwd=tmp_path)
            assert refused.returncode == 2
            assert f"is being trained in by process {first.process.pid}" in refused.stderr
    finally:
        first.kill()
    small = small_recipe(tmp_path / "data", steps=2)
    assert train(small, tmp_path / "run", device="cpu", force=True).trained_steps == 2
    assert not list(tmp_path.glob(".*.work"))
