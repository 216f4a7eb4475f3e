package api_test

import (
	"maps"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/journal"
)

func TestCursorAsText(t *testing.T) {
	for text, want := range map[string]api.Cursor{
		"0":                     {},
		"12":                    {Timeline: 12},
		"ep_1:12":               {Epoch: "ep_1", Timeline: 12},
		"ep_1:12,4711:0,ex_a:7": {Epoch: "ep_1", Timeline: 12, Logs: map[string]int64{"4711": 0, "ex_a": 7}},
		"3,ex_a:7":              {Timeline: 3, Logs: map[string]int64{"ex_a": 7}},
	} {
		got, err := api.ParseCursor(text)
		if err != nil || got.Epoch != want.Epoch || got.Timeline != want.Timeline || !maps.Equal(got.Logs, want.Logs) {
			t.Errorf("%s: got %+v, %v", text, got, err)
		}
		if got.String() != text {
			t.Errorf("%s becomes %s", text, got)
		}
	}
	for _, text := range []string{"", ",", ":", "1,", "1,2", "x", "-1", ":1", "a:b:1", "1,a:-1", "+1", "-0", "1,a:+1", "1,a:1,a:2", `1,"a":1`, "99999999999999999999"} {
		if got, err := api.ParseCursor(text); err == nil {
			t.Errorf("%q is taken for %+v", text, got)
		}
	}
}

// A cursor that advances with each line stands where the client stands.
func TestCursorAdvances(t *testing.T) {
	c := api.Cursor{Epoch: "e", Logs: map[string]int64{"7": 3}}
	follows := func(source api.Source) bool { return source == api.FromExecution }
	for _, step := range []struct {
		source api.Source
		id     string
		line   journal.Line
		want   string
	}{
		{api.FromTimeline, "", journal.Line{Seq: 1, Type: api.RunSubmitted, JSON: []byte(`{"execution_id":"ex_a"}`)}, "e:1,7:3,ex_a:0"},
		{api.FromTimeline, "", journal.Line{Seq: 2, Type: api.ProcessStarted, JSON: []byte(`{"pid":8}`)}, "e:2,7:3,ex_a:0"},
		{api.FromExecution, "ex_a", journal.Line{Seq: 1, Type: "start"}, "e:2,7:3,ex_a:1"},
		{api.FromMetrics, "", journal.Line{Seq: 9, Type: api.MetricsType}, "e:2,7:3,ex_a:1"},
		{api.FromProcess, "7", journal.Line{Seq: 4, Type: journal.End}, "e:2,ex_a:1"},
		{api.FromTimeline, "", journal.Line{Seq: 3, Type: api.RunEnded, JSON: []byte(`{"execution_id":"ex_a"}`)}, "e:3,ex_a:1"},
		{api.FromExecution, "ex_a", journal.Line{Seq: 2, Type: journal.End}, "e:3"},
	} {
		if c.Advance(step.source, step.id, step.line, follows); c.String() != step.want {
			t.Errorf("after %s %d: %s, want %s", step.source, step.line.Seq, c, step.want)
		}
	}
}
