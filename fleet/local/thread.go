package local

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// onThread calls f on a thread that f may change, as it ends then. It is not the process's first one, which
// would stay as it is, and by which others see the whole process.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != os.Getpid() {
			done <- f()
			return // still locked, so that the thread ends
		}
		err := onThread(f) // which gets another one, as this is taken
		runtime.UnlockOSThread()
		done <- err
	}()
	return <-done
}
