"""Content Credentials (C2PA): a signed manifest in the result that says from what it was made, and how.

Needs the extra `c2pa` and a signing certificate of the user's own. The original's pixels are not in the manifest, only
the hash of its file.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from idinpaint.imaging.encoders import write_atomic
from idinpaint.imaging.formats import READ, TABLE, is_picture, output_format
from idinpaint.report.provenance import account, source_type
from idinpaint.types import InputError

SETTINGS = {"builder": {"thumbnail": {"enabled": False}}}  # a thumbnail would show what lay under the mask
EMBEDDED = (b"bidb", b"bfdb", b"c2pa.data", b"thumbnail")  # boxes and labels of files within a manifest (JUMBF)
CREATION = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCreation"  # of the blank picture signed as a trial
LABEL = "invalid.idinpaint.restoration"  # of our own assertion; labels are reverse domains, and we own none


class Credentials:
    """Signs results. cert: PEM file, the signing certificate first, then those above it; key: PEM file, unencrypted.

    Raises InputError where the extra is not installed, a file cannot be read or does not hold what it should.
    """

    def __init__(self, cert: Path, key: Path) -> None:
        try:
            import c2pa  # noqa: F401
        except (ImportError, OSError) as error:
            raise InputError(f"--c2pa-cert: {error}; pip install 'idinpaint[c2pa]'") from error
        self.cert_file, self.chain = cert, _read(cert)
        self.key = _read(key)
        self.algorithm = _algorithm(key, self.key)

    def try_out(self) -> None:
        """Signs a blank picture. InputError when the certificate will not do: told before the work."""
        blank = io.BytesIO()
        Image.new("L", (1, 1)).save(blank, "PNG")
        created = {"action": "c2pa.created", "digitalSourceType": CREATION}
        actions = {"label": "c2pa.actions.v2", "data": {"actions": [created]}}
        definition = {"claim_generator_info": [{"name": "idinpaint"}], "assertions": [actions]}
        self._sign(blank.getvalue(), "image/png", definition)

    def check(self, source: Path, output: Path) -> None:
        """Raises InputError when the output's format cannot carry a manifest, or the source's cannot be named in it,
        or the source's own manifest is damaged."""
        if not (kind := output_format(output)).signed:
            known = ", ".join(row.name for row in TABLE if row.signed)
            raise InputError(f"{output}: {kind.name} carries no Content Credentials; use {known}")
        if not (is_picture(source) and READ[source.suffix.lower()].media):
            raise InputError(
                f"{source}: Content Credentials cannot name such a source; convert it to PNG or TIFF first"
            )
        if source.is_file():
            parent(source)

    def seal(self, picture: bytes, output: Path, source: Path, report: Mapping[str, Any]) -> bytes:
        """The encoded result with its manifest. InputError when the certificate will not do."""
        return self._sign(picture, output_format(output).media, manifest(report), source)

    def _sign(self, picture: bytes, kind: str, definition: dict[str, Any], source: Path | None = None) -> bytes:
        import c2pa

        try:
            signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(self.algorithm, self.chain, self.key, None))
            builder = c2pa.Builder(definition, c2pa.Context.from_dict(SETTINGS))
            if source is not None:
                ingredient = {"title": source.name, "relationship": "parentOf", "instance_id": "original"}
                original_kind, original = parent(source)
                builder.add_ingredient(ingredient, original_kind, io.BytesIO(original))
            sealed = io.BytesIO()
            builder.sign(signer, kind, io.BytesIO(picture), sealed)
        except c2pa.C2paError as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{self.cert_file}: the result cannot be signed with it ({reason})") from error
        return sealed.getvalue()

    def save(
        self, write: Callable[[Path], list[str]], output: Path, source: Path, report: Mapping[str, Any]
    ) -> list[str]:
        """Signs what `write` writes; all or nothing. Returns the notices of `write`."""
        with tempfile.TemporaryDirectory() as folder:
            plain = Path(folder) / output.name
            notices = write(plain)
            sealed = self.seal(plain.read_bytes(), output, source, report)
        write_atomic(output, lambda file: file.write(sealed))
        return notices


def find_credentials(cert: Path | None, key: Path | None) -> Credentials | None:
    """The signer of --c2pa-cert and --c2pa-key, tried out; None without them. InputError for one without the other."""
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise InputError("--c2pa-cert and --c2pa-key belong together: give both")
    credentials = Credentials(cert, key)
    credentials.try_out()
    return credentials


def parent(source: Path) -> tuple[str, bytes]:
    """(media type, bytes) by which the manifest names the original, without a picture of it.

    A manifest that the original carries is taken over whole, its chain of signatures included. One with embedded
    files (thumbnails, mostly, of what the mask hides) cannot be cut without breaking its signature: then a blank
    picture stands for the original, under the original's name. InputError for a damaged manifest.
    """
    import c2pa

    kind, data = READ[source.suffix.lower()].media, source.read_bytes()
    try:
        found = c2pa.Reader(kind, io.BytesIO(data)).json()
    except c2pa.C2paError.ManifestNotFound:
        return kind, data
    except c2pa.C2paError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{source}: its Content Credentials are damaged ({reason}); take them out first") from error
    if not any(mark in data for mark in EMBEDDED) and "thumbnail" not in found and "databox" not in found:
        return kind, data
    blank = io.BytesIO()
    Image.new("L", (1, 1)).save(blank, "PNG")
    return "image/png", blank.getvalue()


def manifest(report: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest's definition: the original was opened, then edited in this way."""
    facts = account(report)
    name, version = facts["software"].split(" ", 1)
    agent = {"name": name, "version": version}
    actions = [
        {"action": "c2pa.opened", "parameters": {"ingredientIds": ["original"]}},
        {
            "action": "c2pa.edited",
            "softwareAgent": agent,
            "digitalSourceType": source_type(report),
            "description": f"the masked part was filled, strategy {facts['strategy']}, verdict {facts['verdict']}",
        },
    ]
    return {
        "claim_generator_info": [agent],
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": actions}},
            {"label": LABEL, "data": json.loads(json.dumps(facts))},
        ],
    }


def _read(path: Path) -> bytes:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if b"-----BEGIN" not in text:
        raise InputError(f"{path}: not a PEM file (-----BEGIN ...)")
    return text


def _algorithm(path: Path, pem: bytes) -> str:
    """C2PA's name of the signature that the private key makes."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: not an unencrypted private key in PEM ({error})") from error
    if isinstance(key, ec.EllipticCurvePrivateKey):
        curves = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
        if key.curve.name in curves:
            return curves[key.curve.name]
    if isinstance(key, rsa.RSAPrivateKey):
        return "ps256"
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    raise InputError(f"{path}: C2PA knows keys on P-256, P-384, P-521, Ed25519 and RSA only")
