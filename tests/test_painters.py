"""References inside the network, the packed data set, and the trainer that works on the device."""

import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from idinpaint.data.packed import PackedFaces
from idinpaint.models.pconv import PConvPrior
from idinpaint.models.points import MIRROR_68, affine_between, mirrored_points
from idinpaint.models.references import ReferenceEncoder, own_mirror, reference_input
from idinpaint.models.weights import BUNDLED
from idinpaint.types import InputError

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))


def face_points(seed: int = 0) -> torch.Tensor:
    """Landmarks of a face that is its own mirror image, [1, 68, 2] px."""
    points = torch.rand(1, 68, 2, generator=torch.Generator().manual_seed(seed)) * 120 + 68
    return (points + mirrored_points(points)) / 2


def test_the_affine_map_between_landmarks_is_found_exactly():
    points = torch.rand(2, 68, 2, generator=torch.Generator().manual_seed(1)) * 100 + 80
    wanted = torch.tensor([[1.1, 0.1, 3.0], [-0.05, 0.9, 7.0]]).expand(2, -1, -1)
    source = points @ wanted[:, :, :2].transpose(1, 2) + wanted[:, None, :, 2]
    assert torch.allclose(affine_between(source, points, ridge=0.0), wanted, atol=1e-3)


def test_mirroring_twice_changes_nothing():
    points = torch.rand(1, 68, 2) * 200
    assert torch.allclose(mirrored_points(mirrored_points(points)), points, atol=1e-4)  # px
    assert sorted(MIRROR_68) == list(range(68))


def test_a_hidden_eye_is_seen_in_the_mirrored_half():
    half = torch.rand(1, 3, 256, 128) * 2 - 1
    image = torch.cat([half, half.flip(-1)], -1)
    mask = torch.zeros(1, 1, 256, 256)
    mask[..., 100:130, 150:190] = 1
    shown = own_mirror(image * (1 - mask), mask, face_points())[0]
    inside = (..., slice(104, 126), slice(154, 186))
    assert torch.allclose(shown[:3][inside], image[0][inside], atol=0.02)
    assert shown[3][inside].all() and shown[4][inside].all()
    twin = shown[3, 104:126, 256 - 186 : 256 - 154]
    assert not twin.any(), "what the hole hides must not count as valid where it is mirrored to"


def test_what_lies_under_a_references_damage_is_not_seen():
    picture, valid = torch.rand(1, 3, 256, 256), torch.ones(1, 1, 256, 256)
    valid[..., 50:90, 60:120] = 0
    other = torch.where(valid.bool(), picture, torch.rand_like(picture))
    maps = torch.tensor([[[0.97, 0.05, 4.0], [-0.05, 0.97, 9.0]]])
    assert torch.equal(reference_input(picture, valid, maps, 0.0), reference_input(other, valid, maps, 0.0))


def test_references_count_alike_in_any_order_and_empty_ones_add_nothing():
    torch.manual_seed(0)
    encoder = ReferenceEncoder(widths=(8, 8, 16, 16, 16), unet_widths=(8, 8, 8)).eval()
    given = torch.rand(1, 3, 5, 64, 64)
    given[:, :, 3] = 1
    for a, b in zip(encoder(given), encoder(given.flip(1)), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    assert all(not level.any() for level in encoder(torch.zeros(1, 2, 5, 64, 64)))


def test_identity_and_references_begin_by_changing_nothing():
    torch.manual_seed(0)
    widths = (8, 8, 16, 16, 16, 16)
    plain = PConvPrior(widths=widths).eval()
    wider = PConvPrior(widths=widths, id_dim=4, reference_widths=(8, 8, 16, 16, 16)).eval()
    wider.load_state_dict(plain.state_dict(), strict=False)
    image, mask = torch.rand(1, 3, 64, 64), torch.zeros(1, 1, 64, 64)
    mask[..., 20:40, 20:40] = 1
    encoder = ReferenceEncoder(widths=(8, 8, 16, 16, 16), unet_widths=(8, 8, 8)).eval()
    levels = encoder(torch.rand(1, 1, 5, 64, 64))
    assert torch.equal(plain(image, mask), wider(image, mask, torch.rand(1, 4), levels))


def test_window_losses_by_hand():
    import losses as w

    assert w.best_of(torch.tensor([1.0, 5.0, 3.0, 1.0]), 2).tolist() == pytest.approx([0.8 * 1 + 0.2 * 3, 0.8 + 1.0])
    assert float(w.weighted_mean(torch.tensor([2.0, 4.0]), torch.tensor([1.0, 0.0]))) == 2
    assert float(w.weighted_mean(torch.tensor([2.0]), torch.tensor([0.0]))) == 0
    real, fake, weights = torch.tensor([0.5, 9.0]), torch.tensor([-0.5, 9.0]), torch.tensor([1.0, 0.0])
    assert float(w.hinge_critic(real, fake, weights)) == 1.0  # max(0, 1 - 0.5) + max(0, 1 - 0.5)
    assert float(w.hinge_painter(fake, weights)) == 0.5
    apart = [torch.stack([torch.zeros(1, 2, 2), torch.ones(1, 2, 2)])]  # one sample, two candidates, distance 1
    assert float(w.variety(apart, 2, 0.3, torch.ones(1))) == 0
    assert float(w.variety(apart, 2, 1.5, torch.ones(1))) == pytest.approx(0.5)
    ramp = torch.linspace(-1, 1, 9).expand(1, 3, 9, 9)
    assert w.gradient_length(ramp).mean().item() == pytest.approx(0.25, abs=1e-3)  # 2 over 8 px
    whole, none = torch.ones(1, 1, 9, 9), torch.zeros(1, 1, 9, 9)
    assert w.gradient_gap(ramp * 0.6, ramp, whole).item() == pytest.approx(0.4, abs=1e-3)
    assert w.gradient_gap(ramp * 0.6, ramp, none).item() == 0


def test_places_are_drawn_by_their_weights():
    from hidden_masks import draw_by

    torch.manual_seed(0)
    drawn = draw_by(torch.tensor([[1.0, 0.0, 3.0]]).expand(4000, -1))
    shares = torch.bincount(drawn, minlength=3) / 4000
    assert shares[1] == 0 and float(shares[2]) == pytest.approx(0.75, abs=0.03)


def test_feature_holes_cover_their_feature_and_windows_are_whole_pixels():
    from hidden_masks import component_centres, feature_holes, windows

    torch.manual_seed(0)
    points = face_points().expand(16, -1, -1)
    holes = feature_holes(points)
    assert holes.shape == (16, 1, 256, 256) and set(holes.unique().tolist()) <= {0.0, 1.0}
    assert all(0.002 < float(hole.mean()) < 0.9 for hole in holes)
    picture = torch.rand(16, 3, 256, 256)
    centres = component_centres(points)[:, 3].clamp(40, 215)
    cut = windows(picture, centres, 80, 80)
    x, y = (int(v) for v in ((centres[0] + 0.5).round() - 0.5 - 39.5).tolist())
    assert torch.allclose(cut[0], picture[0, :, y : y + 80, x : x + 80], atol=1e-4)


def test_a_face_counts_as_hidden_where_a_feature_is_and_places_lie_in_the_hole():
    from hidden_masks import COMPONENTS, component_centres, hidden_places, hidden_shares

    points = face_points().expand(2, -1, -1).clone()
    points[:, 48:68] = torch.tensor([127.5, 180.0])
    mask = torch.zeros(2, 1, 256, 256)
    mask[0, :, 160:200, 100:155] = 1
    shares = hidden_shares(component_centres(points), mask, 80)
    assert shares.shape == (2, len(COMPONENTS)) and not shares[1].any()
    assert shares[0, COMPONENTS.index("mouth")] > 0.8 and shares[0, -1] == shares[0, :-1].max()
    torch.manual_seed(0)
    places = hidden_places(mask[:1].expand(200, -1, -1, -1), 80)
    assert (places >= torch.tensor([96.0, 156.0])).all() and (places <= torch.tensor([159.0, 204.0])).all()
    inside = (places > torch.tensor([106.0, 166.0])).all(1) & (places < torch.tensor([149.0, 194.0])).all(1)
    assert 0.2 < float(inside.float().mean()) < 0.6, "about half anywhere in the hole, the rest on its rim"


def tiny_pack(folder: Path, photos: int = 6) -> Path:
    """A packed set of noise pictures with face-like landmarks."""
    import io

    from pack_data import avif

    rng, path = np.random.default_rng(0), folder / "faces.facepack"
    names = [f"{i}.jpg" for i in range(photos)]
    table = {"names": names, "people": ["a", "a"] + [""] * (photos - 2)}
    table["splits"] = ["train"] * (photos - 2) + ["val"] * 2
    points = np.repeat(face_points().numpy(), photos, 0).astype(np.float16)
    masks = np.zeros((2, 256, 256), bool)
    masks[:, 90:130, 60:120] = True
    arrays = io.BytesIO()
    bits = np.packbits(masks.reshape(2, -1), axis=1)
    np.savez_compressed(arrays, landmarks=points, masks=bits, mask_shape=masks.shape)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("table.json", json.dumps(table))
        archive.writestr("arrays.npz", arrays.getvalue())
        for index in range(photos):
            archive.writestr(f"photos/{index:05d}.avif", avif(rng.integers(0, 255, (256, 256, 3), np.uint8), 80))
    return path


def test_a_pack_is_read_back(tmp_path):
    pack = PackedFaces(tiny_pack(tmp_path))
    assert len(pack) == 6 and pack.rows("val") == [4, 5] and pack.people[0] == "a"
    assert pack.photos([5, 0]).shape == (2, 256, 256, 3) and pack.landmarks.shape == (6, 68, 2)
    assert pack.masks()[0, 100, 80] and not pack.masks()[0, 0, 0]
    bad = tmp_path / "bad.facepack"
    bad.write_bytes(b"no zip")
    with pytest.raises(InputError, match="not a packed data set"):
        PackedFaces(bad)


def random_teachers(folder: Path) -> None:
    """Files of the published layout with random numbers."""
    from pack_data import ALEX, MOBILEFACENET, VGG16

    from idinpaint.models.teachers import MobileFaceNet

    folder.mkdir()
    alex = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
    vgg = {0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128), 12: (256, 256), 14: (256, 256)}
    sizes = {ALEX: alex, VGG16: {k: (*v, 3) for k, v in vgg.items()}}
    for name, layers in sizes.items():
        state = {f"features.{k}.weight": torch.randn(o, i, s, s) * 0.05 for k, (o, i, s) in layers.items()}
        state |= {f"features.{k}.bias": torch.zeros(o) for k, (o, _, _) in layers.items()}
        torch.save(state, folder / name)
    torch.save(MobileFaceNet().state_dict(), folder / MOBILEFACENET)


def test_every_stage_trains_from_the_bundle_and_writes_what_exports(tmp_path, monkeypatch, capsys):
    import import_bundle
    import train_painters
    from export_painters import make_pipeline

    random_teachers(tmp_path / "teachers")
    bundle = tmp_path / "bundle"
    monkeypatch.setattr("sys.argv", ["import_bundle", "--output", str(bundle)])
    import_bundle.main()
    config = train_painters.PainterConfig(
        train_data_dir=str(tiny_pack(tmp_path)), teachers=str(tmp_path / "teachers"), init=str(bundle),
        landmarks=str(bundle / "landmarks.safetensors"), identity=str(bundle / "identity.safetensors"),
        output_dir=str(tmp_path / "run"), max_train_minutes=0.25, train_batch_size=2, bank_size=3, log_steps=1,
        validation_photos=2, warmup_steps=1, adversarial_warmup=1, face_samples=1,
        gradient_weight=0.1, critic_steps=1,
    )  # fmt: skip
    config.prepare()
    train_painters.main(config)
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert {row["stage"] for row in rows if "stage" in row} == {"prior", "diffusion", "gan"}
    assert all(np.isfinite(row["feature_psnr"]) for row in rows if "feature_psnr" in row)
    written = sorted(path.name for path in (tmp_path / "run").glob("*.safetensors"))
    assert {"critics-1.safetensors", "pdgan-face.safetensors", "prior.safetensors"} <= set(written)
    assert all((tmp_path / "run" / name).stat().st_size < 16 * 2**20 for name in written)
    before, after = load_file(bundle / "prior.safetensors"), load_file(tmp_path / "run" / "prior.safetensors")
    assert set(before) == set(after)
    assert make_pipeline([tmp_path / "run"]).reference_encoder is not None
    with pytest.raises(InputError, match="no such file; write it with"):
        train_painters.PainterConfig(train_data_dir=str(tmp_path / "none.facepack")).prepare()


def test_losses_look_at_the_hidden_features_and_right_eyes_as_left_ones(tmp_path):
    from device_examples import Examples
    from feature_critics import KINDS, WindowCritics
    from losses import LossConfig
    from painter_steps import PainterLoss

    random_teachers(tmp_path / "teachers")
    config = LossConfig(
        teachers=str(tmp_path / "teachers"), landmarks=str(BUNDLED / "landmarks.safetensors"),
        identity=str(BUNDLED / "identity.safetensors"), window_shares=(0.5, 0.25, 0.25, 0.25, 0.5, 0.25),
        mixed_precision="no",
    )  # fmt: skip
    loss = PainterLoss(config, WindowCritics(), torch.device("cpu"))
    torch.manual_seed(0)
    image, nothing = torch.rand(4, 3, 256, 256), torch.zeros(4, 1)
    hidden = torch.zeros(4, 6)
    hidden[1, 1] = hidden[2, 3] = hidden[1:3, 5] = 1  # the second's right eye, the third's nose, both faces
    centres = torch.full((4, 6, 2), 127.5)
    centres[1, 1] = torch.tensor([99.5, 79.5])
    mask = torch.zeros(4, 1, 256, 256)
    mask[1, :, 60:100, 80:120] = 1
    mask[2, :, 100:150, 100:150] = 1
    points = torch.full((4, 68, 2), 127.5)
    examples = Examples(
        image, image * (1 - mask), mask, points, points, nothing, nothing, centres, hidden, torch.full((4, 2), 127.5)
    )
    pictures = image.repeat(2, 1, 1, 1).clone().requires_grad_()
    look = loss.look(examples, pictures, copies=2)
    kept = {kind: look.of(kind, look.weights).tolist() for kind in KINDS}
    assert kept == {"eye": [1, 0], "eyes": [0], "nose": [1], "mouth": [0], "face": [1, 1], "rest": [1]}
    assert torch.allclose(look.of("eye", look.real)[0], image[1, :, 40:120, 60:140].flip(-1), atol=1e-4)
    assert torch.allclose(look.of("nose", look.fake)[1], image[2, :, 88:168, 88:168], atol=1e-4), (
        "the second candidate's"
    )
    assert len(look.components(look.fake)) == 2 * 5 and len(look.fake) == 2 * 8
    assert loss.critic(look).item() > 0
    look.fake.sum().backward()
    assert pictures.grad[2].any() and pictures.grad[6].any(), "both candidates learn"


def test_what_alternates_from_pixel_to_pixel_is_smoothed_away():
    from idinpaint.models.refiner import smooth

    ys, xs = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    for net in (1.0 - 2 * ((xs + ys) % 2), 1.0 - 2 * (xs % 2), 1.0 - 2 * (ys % 2)):
        assert smooth(net.expand(1, 3, -1, -1))[..., 1:-1, 1:-1].abs().max() < 1e-6
    assert torch.allclose(smooth(torch.full((1, 3, 8, 8), 0.3)), torch.tensor(0.3))
