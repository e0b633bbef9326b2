"""A page about an export: how every file answers beside the trained model, how large and how fast it is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_inception.data.decode import printable
from keras_inception.report.page import Section, Table, write_page


def write_proof(path: Path, result: Mapping[str, Any]) -> None:
    """Write the page.

    Args:
        path: The HTML file.
        result: What `export` returns.
    """
    allowed = result["thresholds"]
    lead = (
        f"Every file was loaded in a fresh process and answered {result['images']:,} {result['of']}, which the trained "
        f"model in float32 answered too.\n\n"
        f"Allowed: a probability may differ by {allowed['float32']:g} in float32 and by {allowed['float16']:g} with "
        f"weights in 16 bits; with values or weights in 8 bits at least {allowed['agreement']:.1%} of the answers are "
        f"the same, and top-1 falls by no more than {allowed['accuracy_loss']:.1%} of the images."
    )
    rows = [result["reference"], *result["files"]]
    sections = [
        Section("Answers", tables=[_answers(rows)], text=_notes(result["files"])),
        Section(
            "Latency",
            tables=[_latency(rows)],
            text="Milliseconds for a batch, of the network alone: median (95th percentile).",
        ),
    ]
    if result["attempts"]:
        sections.append(
            Section("What missed, and was not kept", _misses(result["attempts"]), [_answers(result["attempts"])])
        )
    sections.append(Section("Where it comes from", tables=[Table(["", ""], list(result["provenance"].items()))]))
    write_page(path, title=f"Exports of {result['run']}", lead=lead, sections=sections)


def _answers(proofs: Sequence[Mapping[str, Any]]) -> Table:
    columns = ["file", "MB", "largest difference", "same answers", "top-1 (95% interval)"]
    return Table(
        columns,
        [
            [
                proof["file"],
                proof["bytes"] / 1e6,
                proof["largest_difference"],
                f"{proof['agreement']:.1%}",
                _accuracy(proof),
            ]
            for proof in proofs
        ],
    )


def _accuracy(proof: Mapping[str, Any]) -> str:
    if proof["top1"] is None:
        return ""
    low, high = proof["top1_interval"]
    return f"{proof['top1']:.1%} ({low:.1%} to {high:.1%})"


def _latency(proofs: Sequence[Mapping[str, Any]]) -> Table:
    columns = ["file"]
    for row in proofs[0]["latency_ms"]:
        columns.append(f"batch {row['batch']}, {row['threads']} {'thread' if row['threads'] == 1 else 'threads'}")
    times = [[f"{row['median']:.3g} ({row['p95']:.3g})" for row in proof["latency_ms"]] for proof in proofs]
    return Table(columns, [[proof["file"], *cells] for proof, cells in zip(proofs, times, strict=True)])


def _notes(proofs: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join(f"{proof['file']}: {proof['note']}." for proof in proofs if proof["note"])


def _misses(proofs: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        f"{proof['file']} ({proof['note']}): {' and '.join(proof['misses'])}; most on "
        f"{', '.join(map(printable, proof['disagreeing']))}."
        for proof in proofs
    ]
    return "\n".join(lines)
