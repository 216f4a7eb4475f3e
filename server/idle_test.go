package server_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/k2sandbox/k2sandbox/server"
)

// A server is idle when it has neither requests nor anything else to do for the whole time.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const after = time.Minute
		var busy atomic.Bool
		work := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { time.Sleep(10 * after) })
		idle := server.NewIdle(work, after, busy.Load)
		done := make(chan time.Time, 1)
		go func() {
			if err := idle.Wait(t.Context()); err != nil {
				t.Error(err)
			}
			done <- time.Now()
		}()
		status := func() int {
			w := httptest.NewRecorder()
			idle.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/", nil))
			return w.Code
		}
		time.Sleep(after - time.Second)
		if got := status(); got != 200 { // which takes ten times as long
			t.Errorf("status %d", got)
		}
		busy.Store(true)
		time.Sleep(10 * after)
		select {
		case <-done:
			t.Fatal("it ended while it was in use")
		default:
		}
		busy.Store(false)
		free := time.Now()
		if took := (<-done).Sub(free); took < after*3/4 || took > after*5/4 { // of the bubble's clock
			t.Errorf("it ended %v after it was free", took)
		}
		if got := status(); got != 503 {
			t.Errorf("status %d", got)
		}
	})
}

func TestIdleStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	idle := server.NewIdle(http.NotFoundHandler(), time.Hour, func() bool { return false })
	if err := idle.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
