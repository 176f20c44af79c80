"""Content Credentials by the real c2pa library (extra `c2pa`), with a certificate chain made here."""

from __future__ import annotations

import datetime as dt
import io
import json
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from idinpaint.cli import main
from idinpaint.report.content_credentials import LABEL, Credentials, find_credentials, manifest
from idinpaint.types import InputError

FACTS = {
    "versions": {"idinpaint": "1.0"}, "status": "restored", "verdict": None, "seed": 0, "hole_ratio": 0.01, "faces": [],
    "decision": {"strategy": "diffusion", "rule": "thin", "forced": False},
}  # fmt: skip


def test_without_the_options_nothing_is_signed_and_one_alone_is_refused():
    assert find_credentials(None, None) is None
    for cert, key in ((Path("c.pem"), None), (None, Path("k.pem"))):
        with pytest.raises(InputError, match="belong together"):
            find_credentials(cert, key)


def test_the_manifest_says_opened_then_edited_by_a_network():
    found = manifest(FACTS)["assertions"]
    first, second = found[0]["data"]["actions"]
    assert (first["action"], second["action"]) == ("c2pa.opened", "c2pa.edited")
    assert second["digitalSourceType"].endswith("/compositeWithTrainedAlgorithmicMedia")
    assert found[1]["label"] == LABEL and found[1]["data"]["strategy"] == "diffusion"


@pytest.fixture(scope="module")
def chain(tmp_path_factory) -> tuple[Path, Path]:
    """(certificates, private key) of a signer below a root of its own."""
    pytest.importorskip("c2pa", reason="pip install 'idinpaint[c2pa]' to test signing")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    now = dt.datetime.now(dt.UTC)

    def name(text: str) -> x509.Name:
        oid = x509.oid.NameOID
        return x509.Name(
            [x509.NameAttribute(oid.ORGANIZATION_NAME, "A test"), x509.NameAttribute(oid.COMMON_NAME, text)]
        )

    def certificate(subject: str, issuer: str, key, signer, root: bool):
        usage = [not root, False, False, False, False, root, root, False, False]
        made = (
            x509.CertificateBuilder(name(issuer), name(subject), key.public_key(), x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=2))
            .add_extension(x509.BasicConstraints(root, None), True)
            .add_extension(x509.KeyUsage(*usage), True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False)
        )
        if not root:
            made = made.add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.EMAIL_PROTECTION]), True)
        return made.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    above, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    folder = tmp_path_factory.mktemp("chain")
    pem = certificate("signer", "root", own, above, False) + certificate("root", "root", above, above, True)
    (folder / "cert.pem").write_bytes(pem)
    plain = serialization.NoEncryption()
    encoding, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / "key.pem").write_bytes(own.private_bytes(encoding, pkcs8, plain))
    return folder / "cert.pem", folder / "key.pem"


def test_a_signed_result_verifies_and_a_changed_one_does_not(chain, tmp_path, capsys):
    import c2pa

    photo, mask = tmp_path / "photo.jpg", np.zeros((512, 512), np.uint8)
    Image.fromarray(skimage.data.astronaut()).save(photo)
    mask[5:9, 5:30] = 255  # background: no face is painted
    Image.fromarray(mask).save(tmp_path / "mask.png")
    out, (cert, key) = tmp_path / "out.png", chain
    command = ["restore", photo, "--mask", tmp_path / "mask.png", "-o", out, "--face-box", "170,60,110,130"]
    assert main([str(part) for part in [*command, "--c2pa-cert", cert, "--c2pa-key", key]]) == 0, capsys.readouterr()
    with out.open("rb") as file:
        found = json.loads(c2pa.Reader("image/png", file).json())
    assert found["validation_state"] == "Valid"
    active = found["manifests"][found["active_manifest"]]
    assert active["ingredients"][0]["title"] == "photo.jpg" and "thumbnail" not in json.dumps(active)
    own = next(a["data"] for a in active["assertions"] if a["label"] == LABEL)
    assert own["strategy"] == "telea" and own["hole_ratio"] == pytest.approx(100 / 512**2, abs=1e-5)
    kept = np.asarray(Image.open(out))[mask == 0]
    assert np.array_equal(kept, np.asarray(Image.open(photo))[mask == 0])
    data = bytearray(out.read_bytes())
    data[-40] ^= 1  # of the pixels
    with (tmp_path / "changed.png").open("wb") as file:
        file.write(data)
    with (tmp_path / "changed.png").open("rb") as file:
        codes = c2pa.Reader("image/png", file).json()
    assert "assertion.dataHash.mismatch" in codes


def test_what_cannot_be_signed_is_refused_in_one_line(chain, tmp_path):
    cert, key = chain
    signer = Credentials(cert, key)
    assert signer.algorithm == "es256"
    with pytest.raises(InputError, match="BMP carries no"):
        signer.check(Path("a.png"), Path("b.bmp"))
    with pytest.raises(InputError, match="convert it"):
        signer.check(Path("a.jp2"), Path("b.png"))
    with pytest.raises(InputError, match="not a PEM"):
        bad = tmp_path / "no.pem"
        bad.write_text("hello")
        Credentials(bad, key)
    with pytest.raises(InputError, match="private key"):
        Credentials(cert, cert)
    with pytest.raises(InputError, match="cannot be read"):
        Credentials(cert, tmp_path / "nothing.pem")
    other = Credentials(cert, key)
    other.chain = cert.read_bytes().split(b"-----END CERTIFICATE-----\n")[1] + b"-----END CERTIFICATE-----\n"
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="cannot be signed"):
        other.seal((tmp_path / "a.png").read_bytes(), Path("b.png"), tmp_path / "a.png", FACTS)
    (tmp_path / "root.pem").write_bytes(other.chain)
    with pytest.raises(InputError, match="root.pem: the result cannot be signed"):  # told before the work
        find_credentials(tmp_path / "root.pem", key)


@pytest.mark.parametrize("suffix, kind", [("jpg", "image/jpeg"), ("png", "image/png"), ("webp", "image/webp")])
@pytest.mark.parametrize("thumbnail", [True, False])
def test_a_thumbnail_in_the_originals_manifest_stays_behind(chain, tmp_path, suffix, kind, thumbnail):
    """The camera's manifest shows the face under the mask; its chain is kept when it shows nothing."""
    import c2pa

    signer = Credentials(*chain)
    plain, source = io.BytesIO(), tmp_path / f"a.{suffix}"
    Image.fromarray(skimage.data.astronaut()).save(plain, {"jpg": "JPEG"}.get(suffix, suffix.upper()))
    settings = c2pa.Context.from_dict({"builder": {"thumbnail": {"enabled": False}}})
    definition = {**manifest(FACTS), "assertions": [manifest(FACTS)["assertions"][1]]}
    if thumbnail:
        definition["thumbnail"] = {"format": "image/jpeg", "identifier": "thumb.jpg"}
    builder, secret = c2pa.Builder(definition, settings), b"\xff\xd8 the hidden face \xff\xd9"
    builder.set_intent(c2pa.C2paBuilderIntent.CREATE, c2pa.C2paDigitalSourceType.DIGITAL_CAPTURE)
    if thumbnail:
        builder.add_resource("thumb.jpg", io.BytesIO(secret))
    info = c2pa.C2paSignerInfo(signer.algorithm, signer.chain, signer.key, None)
    with source.open("w+b") as file:
        builder.sign(c2pa.Signer.from_info(info), kind, io.BytesIO(plain.getvalue()), file)
    assert (secret in source.read_bytes()) == thumbnail
    blank = io.BytesIO()
    Image.new("RGB", (8, 8)).save(blank, "PNG")
    sealed = signer.seal(blank.getvalue(), Path("o.png"), source, FACTS)
    assert b"hidden face" not in sealed
    found = json.loads(c2pa.Reader("image/png", io.BytesIO(sealed)).json())
    assert found["validation_state"] == "Valid"
    named = found["manifests"][found["active_manifest"]]["ingredients"][0]
    assert named["title"] == source.name and ("active_manifest" in named) != thumbnail


def test_a_damaged_manifest_of_the_original_is_named(chain, tmp_path):
    import c2pa  # noqa: F401

    signer = Credentials(*chain)
    source = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(source)
    signed = signer.seal(source.read_bytes(), source, source, FACTS)
    cut = signed.index(b"caBX") + 60
    source.write_bytes(signed[:cut] + bytes(200) + signed[cut + 200 :])
    with pytest.raises(InputError) as caught:
        signer.seal(signed, Path("o.png"), source, FACTS)
    assert "a.png" in str(caught.value) and "cert.pem" not in str(caught.value)
