package server_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/server"
)

func keyed(ctx context.Context, key string) *http.Request {
	r := httptest.NewRequestWithContext(ctx, "POST", "/", nil)
	r.Header.Set("Idempotency-Key", key)
	return r
}

func TestOnceBeginsOnce(t *testing.T) {
	var once server.Once[int]
	n := 0
	begin := func() (int, error) { n++; return n, nil }
	for range 3 {
		if got, err := once.Do(keyed(t.Context(), "a"), "body", begin); got != 1 || err != nil {
			t.Errorf("got %d, %v", got, err)
		}
	}
	if got, _ := once.Do(keyed(t.Context(), "b"), "body", begin); got != 2 {
		t.Errorf("another key: %d", got)
	}
	for want := 3; want < 5; want++ {
		if got, _ := once.Do(httptest.NewRequest("POST", "/", nil), "body", begin); got != want {
			t.Errorf("no key: %d", got)
		}
	}
}

func TestOnceRefuses(t *testing.T) {
	var once server.Once[int]
	begin := func() (int, error) { return 1, nil }
	if _, err := once.Do(keyed(t.Context(), "a"), "body", begin); err != nil {
		t.Fatal(err)
	}
	var told *api.Error
	if _, err := once.Do(keyed(t.Context(), "a"), "other", begin); !errors.As(err, &told) || told.Code != api.Unprocessable {
		t.Errorf("another body: %v", err)
	}
	for _, key := range []string{strings.Repeat("a", 256), "\x01", "é"} {
		if _, err := once.Do(keyed(t.Context(), key), "body", begin); !errors.As(err, &told) || told.Details["field"] != "Idempotency-Key" {
			t.Errorf("%q: %v", key, err)
		}
	}
}

func TestOnceTriesAgainWhatFailed(t *testing.T) {
	var once server.Once[int]
	failed := errors.New("failed")
	if _, err := once.Do(keyed(t.Context(), "a"), "body", func() (int, error) { return 0, failed }); !errors.Is(err, failed) {
		t.Errorf("got %v", err)
	}
	func() {
		defer func() { recover() }()
		_, _ = once.Do(keyed(t.Context(), "a"), "body", func() (int, error) { panic("failed") })
	}()
	if got, err := once.Do(keyed(t.Context(), "a"), "body", func() (int, error) { return 2, nil }); got != 2 || err != nil {
		t.Errorf("got %d, %v", got, err)
	}
}

func TestOnceWaitsForTheFirst(t *testing.T) {
	var once server.Once[int]
	begun, goOn, first := make(chan struct{}), make(chan struct{}), make(chan int)
	go func() {
		got, _ := once.Do(keyed(context.Background(), "a"), "body", func() (int, error) {
			close(begun)
			<-goOn
			return 1, nil
		})
		first <- got
	}()
	<-begun
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	never := func() (int, error) { t.Error("it began twice"); return 2, nil }
	if _, err := once.Do(keyed(gone, "a"), "body", never); !errors.Is(err, context.Canceled) {
		t.Errorf("a client that left: %v", err)
	}
	close(goOn)
	if got, err := once.Do(keyed(t.Context(), "a"), "body", never); got != 1 || err != nil || <-first != 1 {
		t.Errorf("got %d, %v", got, err)
	}
}

func TestOnceForgetsTheOldest(t *testing.T) {
	var once server.Once[int]
	for i := range 5000 {
		if _, err := once.Do(keyed(t.Context(), strconv.Itoa(i)), "body", func() (int, error) { return i, nil }); err != nil {
			t.Fatal(err)
		}
	}
	for key, want := range map[string]int{"0": -1, "4999": 4999} {
		if got, _ := once.Do(keyed(t.Context(), key), "body", func() (int, error) { return -1, nil }); got != want {
			t.Errorf("key %s: %d", key, got)
		}
	}
}
