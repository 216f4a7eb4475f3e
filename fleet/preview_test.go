package fleet_test

import (
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/fleet"
)

// A token opens one port of one sandbox until its time, also after a restart, and is no other token.
func TestPreviewTokens(t *testing.T) {
	h, dir := newHost(t), t.TempDir()
	f := open(t, h, fleet.Options{Dir: dir})
	until := time.Now().Add(time.Hour).Truncate(time.Second)
	token := f.PreviewToken("sb_a", 8000, until)
	for name, test := range map[string]struct {
		id    string
		port  int
		token string
	}{
		"another sandbox": {"sb_b", 8000, token},
		"another port":    {"sb_a", 8001, token},
		"expired":         {"sb_a", 8000, f.PreviewToken("sb_a", 8000, time.Now().Add(-time.Second))},
		"access token":    {"sb_a", 8000, f.AccessToken("sb_a")},
		"traffic token":   {"sb_a", 8000, f.TrafficToken("sb_a")},
		"nothing":         {"sb_a", 8000, ""},
		"more digits":     {"sb_a", 8000, token[:4] + "0" + token[4:]},
		"a sign":          {"sb_a", 8000, token[:4] + "+" + token[4:]},
		"cut":             {"sb_a", 8000, token[:len(token)-1]},
		"no prefix":       {"sb_a", 8000, token[4:]},
	} {
		if got := f.PreviewUntil(test.id, test.port, test.token); !got.IsZero() {
			t.Errorf("%s: opens until %v", name, got)
		}
	}
	if got := f.PreviewUntil("sb_a", 8000, token); !got.Equal(until) {
		t.Errorf("until %v, want %v", got, until)
	}
	if f.Token("sb_a", token) {
		t.Error("it is an access token, too")
	}
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := open(t, h, fleet.Options{Dir: dir}).PreviewUntil("sb_a", 8000, token); !got.Equal(until) {
		t.Errorf("after a restart: %v", got)
	}
	if got := open(t, h, fleet.Options{Dir: t.TempDir()}).PreviewUntil("sb_a", 8000, token); !got.IsZero() {
		t.Errorf("of another server: %v", got)
	}
}
