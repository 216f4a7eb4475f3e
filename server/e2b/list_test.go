package e2b_test

import (
	"fmt"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/internal/servertest"
)

func TestList(t *testing.T) {
	s := start(t, echo, nil)
	var ids []string
	for i := range 5 {
		ids = append(ids, s.create(fmt.Sprintf(`{"templateID":"base","metadata":{"n":"%d","a b":"c=d&"}}`, i)).SandboxID)
	}
	other := s.create(`{"templateID":"host"}`)
	servertest.Done(t, s.control("POST", "/sandboxes/"+ids[1]+"/pause", ``))
	dead := s.create(`{"templateID":"base"}`)
	servertest.Done(t, s.control("DELETE", "/sandboxes/"+dead.SandboxID, ""))
	started := s.get(ids[3]).StartedAt

	list := func(query string) []string {
		t.Helper()
		var got []string
		for token := ""; ; {
			resp := s.control("GET", "/v2/sandboxes?"+query+token, "")
			if n := resp.Header.Get("X-Total-Running"); n != "5" {
				t.Errorf("%s runs", n)
			}
			for _, one := range servertest.Decode[[]box](t, resp, 200) {
				got = append(got, one.SandboxID)
			}
			next := resp.Header.Get("X-Next-Token")
			if next == "" {
				return got
			}
			token = "&nextToken=" + url.QueryEscape(next)
		}
	}
	all := append(slices.Clone(ids), other.SandboxID)
	newest := slices.Clone(all)
	slices.Reverse(newest)
	for query, want := range map[string][]string{
		"":                     newest,
		"limit=2":              newest,
		"limit=1&order=asc":    all,
		"order=desc":           newest,
		"state=paused":         {ids[1]},
		"state=running,paused": newest,
		"template=host":        {other.SandboxID},
		"metadata=n%3D2":       {ids[2]},
		"metadata=a%252520b%3Dc%25253Dd%252526&order=asc": ids,
		"metadata=a%252520b%3Dc%25253Dd%252526%26n%3D4":   {ids[4]},
		"metadata=n%3D9": nil,
		"metadata=":      newest,
		"startedAfter=" + url.QueryEscape(started.Format(time.RFC3339Nano)) + "&order=asc": {ids[3], ids[4], other.SandboxID},
		"unknown=1&order=asc": all,
	} {
		if got := list(query); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", query, got, want)
		}
	}
	old := servertest.Decode[[]box](t, s.control("GET", "/sandboxes?metadata=a%252520b%3Dc%25253Dd%252526", ""), 200)
	if len(old) != 4 {
		t.Errorf("the old form lists %+v", old)
	}
	if got := servertest.Read(t, s.control("GET", "/snapshots?limit=1", "")); got != "[]\n" {
		t.Errorf("snapshots: %s", got)
	}
	if got := servertest.Read(t, s.control("GET", "/v2/sandboxes?metadata=n%3D9", "")); got != "[]\n" {
		t.Errorf("no sandboxes: %s", got)
	}
}

func TestMetrics(t *testing.T) {
	s := start(t, echo, nil)
	m := s.create(`{"templateID":"base"}`)
	path := "/sandboxes/" + m.SandboxID + "/metrics"
	type metric struct {
		Timestamp                                                                 time.Time
		TimestampUnix, CPUCount, MemUsed, MemTotal, MemCache, DiskUsed, DiskTotal int64
		CPUUsedPct                                                                float64
	}
	got := servertest.Decode[[]metric](t, s.control("GET", path, ""), 200)
	if len(got) != 1 || got[0].MemUsed != 20<<20 || got[0].MemTotal != 512<<20 || got[0].CPUCount != 2 || got[0].DiskUsed != 0 || got[0].CPUUsedPct <= 0 || got[0].TimestampUnix != got[0].Timestamp.Unix() {
		t.Fatalf("got %+v", got)
	}
	at := got[0].TimestampUnix
	for query, want := range map[string]int{
		fmt.Sprintf("?start=%d", at): 1, fmt.Sprintf("?start=%d", at+1000): 0, fmt.Sprintf("?end=%d", at-1): 0, fmt.Sprintf("?start=%d&end=%d", at, at+1000): 1,
	} {
		if got := servertest.Decode[[]metric](t, s.control("GET", path+query, ""), 200); len(got) < want || want == 0 && len(got) > 0 {
			t.Errorf("%s: got %+v", query, got)
		}
	}
}
