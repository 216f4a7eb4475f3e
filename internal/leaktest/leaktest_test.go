package leaktest_test

import (
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/internal/leaktest"
)

func TestGoroutines(t *testing.T) {
	quit, ended := make(chan struct{}), make(chan struct{})
	go linger(quit, ended)
	if err := leaktest.Goroutines("TestGoroutines("); err == nil || !strings.Contains(err.Error(), "leaktest_test.linger(") {
		t.Errorf("got %v, want the stack of linger", err)
	}
	if err := leaktest.Goroutines("TestGoroutines(", "leaktest_test.linger("); err != nil {
		t.Error(err)
	}
	close(quit)
	<-ended
	if err := leaktest.Goroutines("TestGoroutines("); err != nil {
		t.Error(err)
	}
}

func linger(quit, ended chan struct{}) {
	defer close(ended)
	<-quit
}
