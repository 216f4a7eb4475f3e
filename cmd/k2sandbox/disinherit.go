package main

import (
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// disinherit keeps from kernels and commands what whoever started this program handed
// on to it: descriptors that it left open, which may lead to what no code inside is
// to see, and signals that it had ignored, as nohup and a script's "&" do, by
// which nothing could be interrupted. This program goes on ignoring them.
func disinherit() {
	open, _ := os.ReadDir("/proc/self/fd") // none where there is no /proc
	for _, entry := range open {
		if fd, err := strconv.Atoi(entry.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT} {
		if signal.Ignored(sig) || toIgnore(sig) {
			ignored = append(ignored, sig)
			signal.Notify(make(chan os.Signal, 1), sig) // which a child does not inherit
		}
	}
}

// ignored are the signals that this program was started to ignore.
var ignored []os.Signal
