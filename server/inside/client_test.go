package inside_test

import (
	"errors"
	"iter"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/client"
)

// c is a client of the shared sandbox, which asks for nothing twice: a stream that is cut is an error.
var c *client.Client

// must returns the value where there is no error.
func must[T any](t *testing.T) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// refuses checks that an error is an answer of the API, and returns it.
func refuses(t *testing.T, err error, status int, code api.Code) *api.Error {
	t.Helper()
	var e *client.Error
	if !errors.As(err, &e) || e.Status != status || e.API.Code != code || e.API.Message == "" {
		t.Fatalf("got %v, want %d %s", err, status, code)
	}
	return e.API
}

// pull takes the events of a stream one by one; ok is false behind its end.
func pull[T any](t *testing.T, events iter.Seq2[T, error]) (next func() (e T, ok bool)) {
	read, stop := iter.Pull2(events)
	t.Cleanup(stop)
	return func() (T, bool) {
		t.Helper()
		e, err, ok := read()
		if err != nil {
			t.Fatal(err)
		}
		return e, ok
	}
}
