"""Analyse a file in a sandbox: send it in, look at it with pandas, plot it, and fetch what comes out.

    python analysis.py [FOLDER]

FOLDER, by default the current one, gets the plot and a file that the code made.
"""

from __future__ import annotations

import sys
from pathlib import Path

from k2sandbox import Sandbox

CSV = """month,city,rain
1,Bergen,230
7,Bergen,148
1,Athens,57
7,Athens,6
1,Quito,83
7,Quito,27
"""

LOOK = """
import pandas as pd
rain = pd.read_csv("rain.csv")
rain.pivot(index="city", columns="month", values="rain")
"""

PLOT = """
import matplotlib.pyplot as plt
figure, axes = plt.subplots()
for city, rows in rain.groupby("city"):
    axes.plot(rows.month, rows.rain, "o-", label=city)
axes.set(title="Rain", xlabel="month", ylabel="mm")
axes.legend()
plt.show()
rain.describe().to_csv("summary.csv")
"""


def main(folder: Path) -> None:
    with Sandbox() as sandbox:
        sandbox.filesystem.write("rain.csv", CSV)

        table = sandbox.run_code(LOOK).raise_for_error().results[0]
        print(table.text)  # .html is what a notebook shows, .table the data of it

        for result in sandbox.run_code(PLOT, on_stderr=lambda data: print(data["line"])).raise_for_error().results:
            if result.mime_type == "image/png" and result.image_data:
                (folder / "rain.png").write_bytes(result.image_data)
            if result.chart:  # what the plot shows, as data
                series = result.chart["axes"][0]["series"]
                print(f"{result.chart['axes'][0]['title']}: {', '.join(one['label'] for one in series)}")

        (folder / "summary.csv").write_text(sandbox.filesystem.read("summary.csv"))
        print(f"see {folder / 'rain.png'} and {folder / 'summary.csv'}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
