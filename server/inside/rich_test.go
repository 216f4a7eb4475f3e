package inside_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
)

// Tables and charts of all kinds come as the document says.
func TestRichDataIsAsDocumented(t *testing.T) {
	const code = `
import datetime, pandas as pd, matplotlib.pyplot as plt
%matplotlib inline
levels = pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["u", None])
display(pd.DataFrame({"n": [1, None], "t": ["x", "y"], "o": [{"k": [1]}, 2**60]}, index=levels))
display(pd.DataFrame([[1, 2]], columns=levels), pd.Series([1.5, float("inf")]), pd.DataFrame())
figure, axes = plt.subplots(2, 3)
axes[0, 0].plot([datetime.date(2024, 1, 1), datetime.date(2024, 1, 2)], [1, float("nan")], label="a")
axes[0, 1].scatter(["u", "v"], [3, 4])
axes[0, 2].barh(["u", "v"], [3, 4])
axes[1, 0].pie([1, 2], labels=["p", "q"])
axes[1, 1].boxplot([[1, 2, 3, 30]])
axes[1, 2].imshow([[1]])
`
	doc := document(t)
	info := newContext(t, api.ContextRequest{})
	lines := read(t, call(t, "POST", "/v1/code", api.RunRequest{Context: info.ContextID, Code: code}))
	tables, kinds := 0, []string{}
	for line := range strings.Lines(lines) {
		if err := check(doc, doc.at(doc, "components", "schemas", "Event"), line); err != nil {
			t.Errorf("%v: %s", err, line)
		}
		var e executor.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if _, ok := e.Data.Get("application/vnd.k2.table+json"); ok {
			tables++
		}
		if v, ok := e.Data.Get("application/vnd.k2.chart+json"); ok {
			var chart struct{ Axes []struct{ Kind string } }
			if err := json.Unmarshal(v.JSON(), &chart); err != nil {
				t.Fatal(err)
			}
			for _, axes := range chart.Axes {
				kinds = append(kinds, axes.Kind)
			}
		}
	}
	same(t, "kinds of axes", kinds, []string{"line", "scatter", "bar", "pie", "box", "unknown"})
	if tables != 4 {
		t.Errorf("%d tables in %s", tables, lines)
	}
}
