"""train_gan.py run for real, briefly: resume, every loss at once, and the restorer on what it wrote."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from safetensors.torch import load_file
from test_training import REPO, launch, small_data, vgg_like

from idinpaint import Restorer
from idinpaint.loading.bundle import find_gan
from idinpaint.models.encdec import EncoderDecoder
from idinpaint.models.gan import SYSTEMS
from idinpaint.models.lafin import LaFInGenerator
from idinpaint.models.pdgan import PDGANGenerator
from idinpaint.models.weights import WeightStore
from idinpaint.painting.gan import load_gan, system_of
from idinpaint.types import InputError

FACE_BOX = (170.0, 60.0, 110.0, 130.0)  # of the astronaut
QUICK = ("train_batch_size=2", "pool_size=4", "pool_passes=1", "mixed_precision=no", "log_steps=1", "window=64")
QUICK += ("validation_photos=2", "checkpointing_steps=2", "report_to=none", "diversity_samples=1", "heatmap_samples=1")


def test_a_resumed_gan_run_equals_an_uninterrupted_one_and_restores(shared, tmp_path):
    root = small_data(shared, tmp_path)
    common = (*QUICK, f"alex={shared}/models/alexnet_features_torchvision.pth", "max_train_steps=4")
    common += ("widths=[16, 16, 16]", "modulation_width=8", "lr_warmup_steps=1", "learning_rate=0.01", "init_from=null")
    whole = launch("train_gan.py", "pdgan-face.yaml", root, *common, f"output_dir={tmp_path}/whole", phase="face")
    assert whole.returncode == 0, whole.stderr[-2000:]
    again = tmp_path / "again" / "face"
    again.mkdir(parents=True)
    (tmp_path / "whole" / "face" / "checkpoint-2").rename(again / "checkpoint-2")
    resumed = launch("train_gan.py", "pdgan-face.yaml", root, *common, f"output_dir={again.parent}", phase="face")
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    first, second = (load_file(tmp_path / n / "face" / "generator.safetensors") for n in ("whole", "again"))
    assert all(torch.allclose(first[k], second[k], atol=1e-5) for k in first)
    rows = [json.loads(line) for line in (tmp_path / "whole" / "face" / "log.jsonl").read_text().splitlines()]
    looks = [r for r in rows if "val_hole_psnr" in r]
    assert [r["step"] for r in looks] == [0, 2, 4]
    assert looks[0]["val_hole_psnr"] == pytest.approx(looks[0]["prior_hole_psnr"], abs=0.01)  # it starts as the prior
    assert looks[-1]["val_hole_psnr"] != pytest.approx(looks[0]["val_hole_psnr"], abs=1e-6)
    terms = {"l1", "perceptual", "adversarial", "matching", "diversity", "skin", "heatmap", "discriminator"}
    assert all(terms <= set(r) and all(np.isfinite(r[t]) for t in terms) for r in rows if "l1" in r)
    assert len(list((tmp_path / "whole" / "face" / "validation").glob("step-*.png"))) == 3
    restores_with(tmp_path / "whole" / "face" / "generator", samples=2)


def restores_with(folder: Path, samples: int) -> None:
    """The restorer paints with the folder's generator, keeps the known pixels, and repeats itself."""
    portrait, mask = skimage.data.astronaut(), np.zeros((512, 512), bool)
    mask[100:125, 195:235] = True
    restorer = Restorer.from_pretrained(device="cpu", gan=str(folder))
    results = [restorer(portrait, mask, strategy="gan", num_samples=samples, seed=5, face_box=FACE_BOX) for _ in "ab"]
    assert np.array_equal(results[0].image, results[1].image)
    assert np.array_equal(results[0].image[~mask], portrait[~mask]) and not results[0].abstained
    own = [c for c in results[0].candidates[0]]
    assert results[0].decision.strategy == "gan" and len(own) == samples
    if samples > 1:
        made = {c.seed: c.image for c in own}
        assert set(made) == {5, 6} and not np.array_equal(made[5], made[6])
        alone = restorer(portrait, mask, strategy="gan", num_samples=1, seed=6, face_box=FACE_BOX)
        (single,) = (c for c in alone.candidates[0])
        difference = made[6].astype(int) - single.image
        assert np.abs(difference).max() <= 1  # a sample depends on its own seed only


def test_lafin_trains_and_restores_under_landmarks(shared, tmp_path):
    root = small_data(shared, tmp_path)
    common = (*QUICK, f"alex={shared}/models/alexnet_features_torchvision.pth", "max_train_steps=1")
    common += ("identity_weight=1", f"identity_teacher={shared}/models/mobilefacenet_foamliu_arcface.pt")
    common += (f"vgg={vgg_like(tmp_path / 'vgg.pth')}", "vgg_layers=[1, 6, 11]", "widths=[8, 8, 32]", "blocks=1")
    run = launch("train_gan.py", "lafin.yaml", root, *common, f"output_dir={tmp_path}/run")
    assert run.returncode == 0, run.stderr[-2000:]
    row = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[1])
    assert {"vgg", "style", "tv", "adversarial", "discriminator", "identity"} <= set(row)
    restores_with(tmp_path / "run" / "generator", samples=1)


def test_generators_are_found_by_name_or_folder(tmp_path):
    assert find_gan(tmp_path, None) is None
    net = PDGANGenerator(widths=(8, 8), seed_width=2, modulation_width=4)
    net.save_pretrained(tmp_path / "gan" / "pdgan-face")
    assert find_gan(tmp_path, None) == find_gan(tmp_path, "pdgan-face") == tmp_path / "gan" / "pdgan-face"
    assert find_gan(Path("nowhere"), str(tmp_path / "gan" / "pdgan-face")) == tmp_path / "gan" / "pdgan-face"
    with pytest.raises(InputError, match="it has: pdgan-face"):
        find_gan(tmp_path, "lafin")
    (tmp_path / "gan" / "pdgan-face" / "config.json").write_text('{"_class_name": "Other"}')
    with pytest.raises(InputError, match="not a loadable generator"):
        load_gan(tmp_path / "gan" / "pdgan-face", None)


def test_export_adds_a_generator_to_a_model_folder(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(REPO / "training"))
    import export_bundle

    model, source = tmp_path / "model", tmp_path / "run"
    model.mkdir()
    (model / "landmarks.safetensors").write_bytes(b"x")
    before = {"files": {"landmarks.safetensors": {"sha256": "", "config": {"out_maps": 68}}}}
    (model / "weights.json").write_text(json.dumps(before))
    net = PDGANGenerator(widths=(8, 8), seed_width=2, modulation_width=4)
    net.save_pretrained(source)
    monkeypatch.setattr("sys.argv", ["export", "--gan", f"pdgan-face={source}", "--output", str(model)])
    export_bundle.main()
    store = WeightStore(model)
    assert all(entry.ok for entry in store.entries()) and len(store.manifest) == 3
    assert store.manifest["landmarks.safetensors"]["config"] == {"out_maps": 68}
    again = load_gan(find_gan(model, None), None).generator
    assert all(torch.allclose(a, b, atol=1e-3) for a, b in zip(net.parameters(), again.parameters(), strict=True))


def test_a_generator_knows_its_system():
    nets = {"pdgan": PDGANGenerator("plain", widths=(8, 8)), "pdgan-face": PDGANGenerator("face", widths=(8, 8))}
    nets |= {"encdec": EncoderDecoder((8, 8, 8), 1), "lafin": LaFInGenerator((8, 8, 32), 1)}
    for name, net in nets.items():
        config = {"_class_name": type(net).__name__, **net.config}
        assert system_of(config) == name and name in SYSTEMS


def test_wrong_recipes_are_named(monkeypatch):
    monkeypatch.syspath_prepend(str(REPO / "training"))
    from gan_examples import GanConfig

    with pytest.raises(InputError, match="system pdgn: use one of pconv, pdgan"):
        GanConfig(system="pdgn").prepare()
    with pytest.raises(InputError, match="the GAN loop has no"):
        GanConfig(use_ema=False).prepare()


RECIPES = [p for p in sorted((REPO / "configs").glob("*.yaml")) if "\nsystem: " in p.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_gan_recipes_build_what_they_name(monkeypatch, path):
    monkeypatch.syspath_prepend(str(REPO / "training"))
    from gan_examples import GanConfig
    from recipes import load_phases
    from train_gan import build_generator

    for phase in load_phases(GanConfig, path):
        with torch.device("meta"):
            net = build_generator(phase.config)
        assert isinstance(net, SYSTEMS[phase.config.system])
