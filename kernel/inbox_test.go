package kernel

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

// fill pushes n messages of a megabyte from another goroutine, and returns where
// it tells how many it could.
func fill(in *inbox, n int) chan int {
	pushed := make(chan int, 1)
	go func() {
		i := 0
		for ; i < n && in.push(wire.Message{Content: make([]byte, 1<<20)}); i++ {
		}
		pushed <- i
	}()
	return pushed
}

// A consumer that is slow makes the kernel wait, and not the memory grow.
func TestInboxIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := newInbox()
		pushed := fill(in, 100)
		for got := 0; got < 100; {
			synctest.Wait()
			if in.bytes > inboxBytes+2<<20 {
				t.Errorf("the inbox holds %d bytes", in.bytes)
			}
			batch, err := in.take(t.Context())
			if err != nil || len(batch) == 0 {
				t.Fatalf("%d messages, %v", len(batch), err)
			}
			got += len(batch)
			in.reuse(batch)
		}
		if n := <-pushed; n != 100 {
			t.Errorf("pushed %d", n)
		}
	})
}

// Readers that wait for a consumer go on when it leaves, and when the kernel is gone.
func TestInboxLetsReadersGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := newInbox()
		pushed := fill(in, 100)
		synctest.Wait()
		strays := 0
		in.close(make([]wire.Message, 3), func(wire.Message) { strays++ })
		if n := <-pushed; n >= 100 || strays != n+3 {
			t.Errorf("pushed %d, stray %d", n, strays)
		}

		in = newInbox()
		pushed = fill(in, 100)
		synctest.Wait()
		in.flow()
		if n := <-pushed; n != 100 {
			t.Errorf("pushed %d", n)
		}
		gone := errors.New("gone")
		in.fail(gone)
		if batch, err := in.take(t.Context()); len(batch) != 100 || err != gone {
			t.Errorf("%d messages, %v", len(batch), err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := in.take(ctx); err == nil {
			t.Error("took from an inbox that has ended")
		}
	})
}
