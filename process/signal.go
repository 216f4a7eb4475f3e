package process

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxSignal is the greatest signal of Linux, SIGRTMAX.
const maxSignal = 64

// ParseSignal returns a signal by its name, such as "SIGINT" or "INT", or its number.
// The error is ErrSignal where there is no such signal.
func ParseSignal(s string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 || n > maxSignal {
			return 0, fmt.Errorf("%w: %d is not from 1 to %d", ErrSignal, n, maxSignal)
		}
		return syscall.Signal(n), nil
	}
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	for sig := syscall.Signal(1); sig <= maxSignal; sig++ {
		if signalName(sig) == name {
			return sig, nil
		}
	}
	return 0, fmt.Errorf("%w: %q", ErrSignal, s)
}

// signalName returns a signal's name, which a real-time signal has from where libc
// counts them: "SIGRTMIN+6".
func signalName(sig syscall.Signal) string {
	const realTime = 34
	if name := unix.SignalName(sig); name != "" {
		return name
	}
	if sig == realTime {
		return "SIGRTMIN"
	}
	return fmt.Sprintf("SIGRTMIN%+d", int(sig)-realTime)
}
