"""One table of finished runs and the list of their figures: `python scripts/summary.py DIR...`."""

import json
import sys
from pathlib import Path

from sciprob.cli.tables import nearby, number, seconds, table, write


def row(folder: Path) -> list[str]:
    """Figures of one run."""
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    coverage = metrics.get("coverage", {}).get("0.9")
    solves = "  ".join(f"{name} {count}" for name, count in metrics["solves"].items() if count)
    return [
        metrics["problem"],
        metrics["solver"],
        metrics["status"],
        number(metrics.get("relative_error")),
        number(coverage),
        number(metrics.get("crps")),
        seconds(metrics["seconds"]),
        solves,
    ]


def main(folders: list[Path]) -> None:
    """Print table and figures."""
    header = ("problem", "solver", "status", "error", "coverage at 90 %", "CRPS", "time", "solves")
    write(table([row(folder) for folder in folders], header, indent=""))
    write("\nfigures")
    for folder in folders:
        for path in sorted((folder / "figures").glob("*.png")):
            write(f"  {nearby(path)}")


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
