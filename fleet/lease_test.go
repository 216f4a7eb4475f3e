package fleet_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/k2sandbox/k2sandbox/fleet"
)

// An agent is told for how long it may go on without a server: past its time, and again and again; by the server that
// takes it back, too.
func TestLeasesAreRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, dir := newHost(t), t.TempDir()
		told := make(chan string, 100)
		options := fleet.Options{Dir: dir, Lease: time.Hour}
		f := open(t, h, options)
		synctest.Wait() // its first round is over
		info, m := create(t, f, h, fleet.CreateOptions{Timeout: 24 * time.Hour})
		if m.spec.Lease != 25*time.Hour { // before anybody renews it
			t.Errorf("it begins with a lease of %v", m.spec.Lease)
		}
		m.serve = func(w http.ResponseWriter, r *http.Request) bool {
			told <- r.Method + " " + r.URL.RequestURI()
			w.WriteHeader(http.StatusNoContent)
			return true
		}
		if _, err := f.SetTimeout(info.ID, 10*time.Hour); err != nil { // which the next lease counts on
			t.Fatal(err)
		}
		for _, want := range []string{"39600", "38700", "37800", "36900"} { // at once, and each a quarter of an hour after the one before
			if got := <-told; got != "POST /v1/lease?seconds="+want+".000" {
				t.Errorf("got %s, want %s seconds", got, want)
			}
		}
		if _, err := f.SetTerm(info.ID, fleet.Term{Lasts: 20 * time.Hour}); err != nil {
			t.Fatal(err)
		}
		if got := <-told; got != "POST /v1/lease?seconds=75600.000" {
			t.Errorf("with a term: %s", got)
		}
		if _, err := f.SetTimeout(info.ID, 10*time.Hour); err != nil {
			t.Fatal(err)
		}
		<-told
		if _, err := f.Pause(t.Context(), info.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Resume(t.Context(), info.ID); err != nil {
			t.Fatal(err)
		}
		if got := <-told; got != "POST /v1/lease?seconds=39600.000" {
			t.Errorf("once it was resumed: %s", got)
		}
		if err := f.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		open(t, h, options) // with a whole timeout anew
		if got := <-told; got != "POST /v1/lease?seconds=39600.000" {
			t.Errorf("once it was taken back: %s", got)
		}
	})
}
