"""The tables of `import_survey.py`."""

from collections import defaultdict
from typing import Any

STAGES = ("inspect", "import", "parity", "write_back", "compress", "branches")
HEADER = (
    "model", "opset", "nodes", "weights", "clusterable", "attainable", "inspect", "import",
    "parity", "write-back", "compress", "2 branches",
)  # fmt: skip


def print_tables(records: list[dict[str, Any]]) -> None:
    """One row per model, then the share of exports that pass each stage, then what failed."""
    unique = {record["model"]: record for record in records}
    latest = [record for record in unique.values() if "exporter" not in record]
    print("| " + " | ".join(HEADER) + " |")
    print("|---" * len(HEADER) + "|")
    for record in latest:
        print("| " + " | ".join(row(record)) + " |")
    groups = defaultdict(list)
    for record in latest:
        groups[origin(record["model"])].append(record)
    groups["all"] = latest
    print("\n| origin | models | " + " | ".join(STAGES) + " |")
    print("|---" * (len(STAGES) + 2) + "|")
    for name, members in groups.items():
        shares = [share(members, stage) for stage in STAGES]
        print(f"| {name} | {len(members)} | " + " | ".join(shares) + " |")
    print()
    for record in latest:
        stage = next((s for s in STAGES if record.get(s, {}).get("status") != "ok"), None)
        if stage is not None:
            print(f"- {record['model']}: {stage}: {record[stage].get('error', 'skipped')}")
    print("\nBeyond the exporters themselves:\n")
    for record in unique.values():
        if "exporter" in record:
            print(f"- {record['model']}: {record['exporter']}")


def origin(model: str) -> str:
    for exporter in ("dynamo", "torchscript"):
        if f"-{exporter}-" in model:
            return f"torch, {exporter}"
    return "files and built graphs"


def share(records: list[dict[str, Any]], stage: str) -> str:
    passed = sum(record.get(stage, {}).get("status") == "ok" for record in records)
    return f"{passed} ({100 * passed / len(records):.0f}%)"


def row(record: dict[str, Any]) -> list[str]:
    found = record.get("inspect", {})
    made = record.get("compress", {})
    cells = [record["model"], str(record.get("opset"))]
    if found.get("status") == "ok":
        cells += [
            f"{found['nodes']:,}",
            f"{found['weights']:,}",
            f"{found['clusterable_share']:.0%}",
            f"{found['max_ratio']:.1%}",
            f"{found['seconds']:.2f} s",
        ]
    else:
        cells += ["-"] * 4 + [word(found)]
    cells += [word(record.get("import", {}))]
    for stage in ("parity", "write_back"):
        result = record.get(stage, {})
        cells += [f"{result['worst']:.0e}" if result.get("status") == "ok" else word(result)]
    cells += [f"{made['physical']:.3f}" if made.get("status") == "ok" else word(made)]
    made = record.get("branches", {})
    if made.get("status") == "ok":
        cells += [f"{made['physical']:.3f}" if "physical" in made else "no room"]
    else:
        cells += [word(made)]
    return cells


def word(result: dict[str, Any]) -> str:
    return str(result.get("status", "-"))
