package sandboxes_test

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/internal/servertest"
)

func TestMetricsOfASandbox(t *testing.T) {
	s := start(t, handler(http.HandlerFunc(echo)), nil)
	id := s.create(t)
	path := "/v1/sandboxes/" + id + "/metrics"
	got := servertest.Decode[api.UsageHistory](t, s.call(t, "GET", path, ""), 200).Metrics
	if len(got) != 1 || *got[0].CPUSeconds != 1 || *got[0].MemoryBytes != 1<<20 || *got[0].Pids != 2 || got[0].DiskBytes != nil || *got[0].OOMKills != 0 {
		t.Fatalf("got %+v", got)
	}
	for query, want := range map[string]bool{"": false, "?usage=false": false, "?usage=true": true} {
		list := servertest.Decode[api.Sandboxes](t, s.call(t, "GET", "/v1/sandboxes"+query, ""), 200).Sandboxes
		if u := list[0].Usage; (u != nil) != want || want && (*u.MemoryPeakBytes != 3<<20 || u.DiskBytes != nil) {
			t.Errorf("%s: got %+v", query, u)
		}
	}
	if e := refused(t, s.call(t, "GET", "/v1/sandboxes?usage=yes", ""), 400, api.InvalidRequest); e.Details["field"] != "usage" {
		t.Errorf("got %+v", e)
	}
	since := "?since=" + url.QueryEscape(got[0].Time.Format(time.RFC3339Nano))
	for _, u := range servertest.Decode[api.UsageHistory](t, s.call(t, "GET", path+since, ""), 200).Metrics {
		if !u.Time.After(got[0].Time) {
			t.Errorf("got %+v again", u)
		}
	}
	if e := refused(t, s.call(t, "GET", path+"?since=yesterday", ""), 400, api.InvalidRequest); e.Details["field"] != "since" {
		t.Errorf("got %+v", e)
	}
	refused(t, s.call(t, "GET", "/v1/sandboxes/sb_none/metrics", ""), 404, api.NotFound)
	s.call(t, "DELETE", "/v1/sandboxes/"+id, "")
	refused(t, s.call(t, "GET", path, ""), 410, api.Gone)
}

func TestPassiveRequestIsNoActivity(t *testing.T) {
	s := start(t, handler(http.HandlerFunc(echo)), nil)
	path := "/v1/sandboxes/" + s.create(t)
	active := func() time.Time {
		return servertest.Decode[api.Sandbox](t, s.call(t, "GET", path, ""), 200).LastActiveAt
	}
	before := active()
	if resp := s.call(t, "GET", path+"/stream", "", "X-Passive", "true"); resp.StatusCode != 200 {
		t.Fatalf("status %d", resp.StatusCode)
	}
	if now := active(); !now.Equal(before) {
		t.Errorf("a passive request was activity: %v, and %v before", now, before)
	}
	s.call(t, "GET", path+"/stream", "", "X-Passive", "false")
	if now := active(); !now.After(before) {
		t.Errorf("a request was no activity: %v", now)
	}
	s.call(t, "DELETE", path, "")
	refused(t, s.call(t, "GET", path+"/stream", "", "X-Passive", "true"), 410, api.Gone)
}
