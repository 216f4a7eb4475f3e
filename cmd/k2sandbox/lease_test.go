package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A lease lasts as long as the server says, and as long again from each of its requests.
func TestLease(t *testing.T) {
	for _, c := range []struct {
		name  string
		after time.Duration // of the request; 0: there is none
		path  string
		least time.Duration // that it lasts, and no longer than a part more
	}{
		{"nobody asks", 0, "", time.Hour},
		{"a request", 50 * time.Minute, "/v1/code", 110 * time.Minute},
		{"another length", 50 * time.Minute, "/v1/lease?seconds=36000", 650 * time.Minute},
		{"no length", 50 * time.Minute, "/v1/lease?seconds=NaN", time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began, over := time.Now(), make(chan time.Duration)
				l := newLease(time.Hour, func() { over <- time.Since(began) })
				defer l.end()
				if c.after > 0 {
					time.Sleep(c.after)
					l.handler(http.NotFoundHandler()).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", c.path, nil))
				}
				if lasted := <-over; lasted < c.least || lasted > c.least+time.Hour/leaseParts {
					t.Errorf("it lasted %v, want %v", lasted, c.least)
				}
			})
		})
	}
}

func TestOrphanTimeoutHasALeast(t *testing.T) {
	c := confined{memory: 1, disk: 1, max: 1}
	c.limits.CPUs, c.limits.Pids, c.limits.Files = 1, 1, 1
	for text, want := range map[string]string{"0": "", "5": "", "4.9": "--orphan-timeout 4.9s: want at least 5s", "1ns": "--orphan-timeout 1ns: want at least 5s"} {
		if err := c.orphan.Set(text); err != nil {
			t.Fatal(err)
		}
		_, err := c.check()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
