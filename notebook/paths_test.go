package notebook_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/notebook"
)

func TestPath(t *testing.T) {
	m := notebook.Moment{RunUUID: "1234", Time: time.Date(2026, 2, 3, 4, 5, 6, 7_008_000, time.UTC)}
	values := []notebook.Parameter{
		{Name: "name", Value: "é"}, {Name: "n", Value: 7}, {Name: "f", Value: 2.5}, {Name: "t", Value: true}, {Name: "none"},
		{Name: "raw", Value: json.RawMessage(`{"a":[1,{"b":"x"}],"n":12}`)}, {Name: "name", Value: "last"}, {Name: "nan", Value: math.NaN()},
		{Name: "map", Value: map[string]any{"k": -3}},
	}
	for template, want := range map[string]string{
		"plain.ipynb":                                     "plain.ipynb",
		"in/out_{name}.ipynb":                             "in/out_last.ipynb",
		"{{{n}}}":                                         "{7}",
		"{n}-{f}-{t}-{none}-{nan}":                        "7-2.5-True-None-nan",
		"{raw[a][1][b]}{raw[n]}{map[k]}":                  "x12-3",
		"{pm[run_uuid]}":                                  "1234",
		"{pm[current_datetime_utc]}":                      "2026-02-03 04:05:06.007008+00:00",
		"{pm[current_datetime_utc]:%Y%m%d}":               "20260203",
		"{pm[current_datetime_utc]:%H-%M-%S.%f %j %b %%}": "04-05-06.007008 034 Feb %",
		"{n:03d}{n:03}{n:x}{n:+d}":                        "0070077+7",
		"{n:3}|{n:<3}|{n:^3}|{n:*>3}":                     "  7|7  | 7 |**7",
		"{f:.2f}{f:08.3f}{f:.0%}{f:e}":                    "2.500002.500250%2.500000e+00",
		"{map[k]:04d}":                                    "-003",
		"{name:6}|{name:>6}|{name:.2}|{name:s}":           "last  |  last|la|last",
	} {
		if got, err := m.Path(template, values); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", template, got, err, want)
		}
	}
	for template, want := range map[string]string{
		"{missing}":                      `missing parameter "missing"`,
		"{raw[x]}":                       `nothing at "x"`,
		"{raw[a][2]}":                    `nothing at "2"`,
		"{raw[a]}":                       "cannot be part of a path",
		"{n":                             "a { without its }",
		"n}":                             "a } without its {",
		"{}":                             "want {name}",
		"{n!r}":                          "want {name}",
		"{n.real}":                       "want {name}",
		"{n:s}":                          "a format that is not known",
		"{n:9999d}":                      "a format that is not known",
		"{name:d}":                       "a format that is not known",
		"{f:d}":                          "a format that is not known",
		"{pm[current_datetime_utc]:%Q}":  "a format that is not known",
		"{pm[current_datetime_utc]:%Y%}": "a format that is not known",
		"{pm[nothing]}":                  `nothing at "nothing"`,
	} {
		if got, err := m.Path(template, values); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, %v; want %q", template, got, err, want)
		}
	}
	a, b := notebook.NewMoment(), notebook.NewMoment()
	if a.RunUUID == b.RunUUID || len(a.RunUUID) != 36 {
		t.Errorf("run ids %q, %q", a.RunUUID, b.RunUUID)
	}
}
