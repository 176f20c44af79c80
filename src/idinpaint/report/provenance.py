"""What the output file says of itself: an XMP packet with IPTC's source type and a short account of the restoration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

from idinpaint.strategies import NETWORKS

PAINTED = "compositeWithTrainedAlgorithmicMedia"  # IPTC NewsCodes, digitalsourcetype
FILLED = "algorithmicallyEnhanced"
_IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:idinpaint="https://idinpaint.invalid/xmp/1.0/">
<xmp:CreatorTool>{tool}</xmp:CreatorTool>
<Iptc4xmpExt:DigitalSourceType>{source}</Iptc4xmpExt:DigitalSourceType>
<idinpaint:Restoration>{account}</idinpaint:Restoration>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""


def account(report: Mapping[str, Any]) -> dict[str, Any]:
    """The report's few facts that travel with the picture; nothing of file names or times."""
    decision = report["decision"]
    return {
        "software": f"idinpaint {report['versions']['idinpaint']}",
        "status": report["status"],
        "verdict": report["verdict"],
        "strategy": decision["strategy"],
        "rule": decision["rule"],
        "forced": decision["forced"],
        "seed": report["seed"],
        "hole_ratio": report["hole_ratio"],
        "faces": [_of_face(face) for face in report["faces"]],
        "invented": sorted({name for face in report["faces"] for name in face["invented"]["features"]}),
    }


def _of_face(face: Mapping[str, Any]) -> dict[str, Any]:
    """Strategy, force and verdict of one face."""
    decision, verification = face["decision"] or {}, face["verification"] or {}
    return {
        "strategy": decision.get("strategy"),
        "forced": decision.get("forced", False),
        "verdict": verification.get("verdict"),
    }


def source_type(report: Mapping[str, Any]) -> str:
    """IPTC's digital source type: painted by a trained network, or only filled."""
    decisions = [report["decision"], *(face["decision"] or {} for face in report["faces"])]
    painted = any(decision.get("strategy") in NETWORKS for decision in decisions)
    return _IPTC + (PAINTED if painted else FILLED)


def xmp_packet(report: Mapping[str, Any]) -> bytes:
    """The XMP packet of a result, UTF-8."""
    facts = account(report)
    text = _PACKET.format(
        tool=escape(facts["software"]),
        source=source_type(report),
        account=escape(json.dumps(facts, ensure_ascii=False)),
    )
    return text.encode()
