package interpreter_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// only returns the one result that code displays.
func (p place) only(t *testing.T, code string) object {
	t.Helper()
	e := p.run(t, code)
	if len(e.Results) != 1 {
		t.Fatalf("%s: %d results: %+v", code, len(e.Results), e)
	}
	return e.Results[0]
}

func TestKindsOfResults(t *testing.T) {
	shared.run(t, "from IPython.display import display, Latex")
	for code, want := range map[string][]string{
		"display(Latex('$x$'))":                           {"latex", "text"},
		"display({'text/latex': '$x$'}, raw=True)":        {"latex"},
		"display({'application/x-mine': 'm'}, raw=True)":  {"application/x-mine"},
		"{'a': [1, 'é', None]}":                           {"json", "text"},
		"import pandas as pd; pd.DataFrame({'a': [1]})":   {"data", "html", "text"},
		"import PIL.Image; PIL.Image.new('RGB', (1, 1))":  {"jpeg", "png", "text"},
		"import matplotlib.pyplot as p; p.plot([1]);":     {"chart", "png", "text"},
		"import matplotlib.pyplot as p; p.imshow([[1]]);": {"chart", "png", "text"},
	} {
		if got := formats(shared.only(t, code)); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", code, got, want)
		}
	}
}

func TestQuotesOfTexts(t *testing.T) {
	for code, want := range map[string]string{
		`"it"`:          "it",
		`"it's"`:        "it's",
		`'"'`:           `"`,
		`"\\ \n"`:       `\\ \n`,
		`["a"]`:         "['a']",
		`b"x"`:          "b'x'",
		`"é\u2028"`:     `é\u2028`,
		`10 ** 30`:      "1000000000000000000000000000000",
		`"'" + '"'`:     `\'"`,
		`1 if 0 else 2`: "2",
	} {
		if got := shared.only(t, code)["text"]; got != want {
			t.Errorf("%s: %.60q, want %.60q", code, got, want)
		}
	}
}

func TestLongListsAreWhole(t *testing.T) {
	text := shared.only(t, "[1] * 2000")["text"].(string)
	if strings.Count(text, "1") != 2000 || strings.Contains(text, "...") {
		t.Errorf("%.100q", text)
	}
}

func TestValuesOfResults(t *testing.T) {
	frame := shared.only(t, `
import pandas as pd
pd.DataFrame({"n": [1, 2], "t": pd.to_datetime(["2026-01-02", None]), "é": [0.5, float("nan")]})`)
	want := object{"n": []any{1.0, 2.0}, "t": []any{"2026-01-02T00:00:00", nil}, "é": []any{0.5, nil}}
	if !reflect.DeepEqual(frame["data"], want) || frame["is_main_result"] != true {
		t.Errorf("data %v", frame)
	}
	figure := shared.only(t, "import matplotlib.pyplot as p; p.pie([1, 3], labels=['a', 'b']); p.title('T'); p.show()")
	chart := object{"type": "pie", "title": "T", "elements": []any{
		object{"label": "a", "angle": 90.0, "radius": 1.0}, object{"label": "b", "angle": 270.0, "radius": 1.0},
	}}
	if !reflect.DeepEqual(figure["chart"], chart) || figure["is_main_result"] != false {
		t.Errorf("chart %v", figure["chart"])
	}
}
