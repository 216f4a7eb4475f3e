package process

import (
	"bytes"
	"io"
	"testing"
)

// What is in a terminal is waited for, also while that is being read.
func TestDrainTerminalWhileItIsRead(t *testing.T) {
	ours, theirs, err := openTerminal(Size{Rows: 24, Cols: 80})
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	o := newOutput(ours, io.Discard)
	go o.copy()
	defer func() {
		theirs.Close()
		<-o.done
	}()
	written := func() int64 {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.written
	}
	text := bytes.Repeat([]byte("x"), 16<<10) // of which the line discipline holds a quarter
	for n := range int64(10000) {
		if _, err := theirs.Write(text); err != nil {
			t.Fatal(err)
		}
		o.drainTerminal()
		if got, want := written(), (n+1)*int64(len(text)); got != want {
			t.Fatalf("round %d: %d bytes of %d", n, got, want)
		}
	}
}
