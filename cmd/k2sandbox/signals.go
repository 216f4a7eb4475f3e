package main

import (
	"context"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

// endings returns the signals that ask a process to end: SIGTERM, and those of
// SIGINT and SIGHUP that whoever started it did not have it ignore, as nohup does.
func endings() []os.Signal {
	signals := []os.Signal{syscall.SIGTERM}
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGHUP} {
		if !slices.Contains(ignored, sig) {
			signals = append(signals, sig)
		}
	}
	return signals
}

// repeat is how soon after the first signal another one is the same: timeout(1) and others
// signal a process and then its group.
const repeat = 500 * time.Millisecond

// interruptible returns a context that ends with the first signal of endings. After
// it the signals have their usual effect again: the second one ends the process at
// once, and the kernels with it.
func interruptible(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(parent, endings()...)
	context.AfterFunc(ctx, func() {
		time.Sleep(repeat)
		stop()
	})
	return ctx, stop
}
