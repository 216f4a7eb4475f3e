package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/client"
	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/process"
)

// program runs a program, and returns its exit status.
func (x *execFlags) program(ctx context.Context, in *client.Client, req api.ProcessRequest) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stdin, stdout := int(os.Stdin.Fd()), int(os.Stdout.Fd())
	if x.tty && term.IsTerminal(stdin) && term.IsTerminal(stdout) {
		cols, rows, _ := term.GetSize(stdout) // 0 stands for the usual size
		req.Stdin, req.Pty = "", &api.Pty{Rows: rows, Cols: cols}
		if name := os.Getenv("TERM"); name != "" && req.Envs["TERM"] == "" {
			req.Envs["TERM"] = name
		}
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, endings()...)
	p, err := in.StartProcess(ctx, req)
	if err != nil {
		return err
	}
	go relay(ctx, in, p.Pid, signals)
	if req.Pty != nil {
		return attach(ctx, in, p.Pid)
	}
	go feed(ctx, in, p.Pid)
	for event, err := range in.ProcessEvents(ctx, p.Pid, 0) {
		if err != nil {
			return err
		}
		to := os.Stdout
		switch event.Type {
		case journal.End:
			return statusOfProgram(event.End)
		case process.Stderr:
			to = os.Stderr
		}
		if _, err := to.Write(event.Output()); err != nil {
			_ = in.SignalProcess(ctx, p.Pid, "SIGPIPE")
			return exitStatus(1)
		}
	}
	return errors.New("the program's events ended without an end")
}

// relay hands signals on to the program.
func relay(ctx context.Context, in *client.Client, pid int, signals <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case sig := <-signals:
			_ = in.SignalProcess(ctx, pid, api.Signal(unix.SignalName(sig.(syscall.Signal)))) // fails where it has ended
		}
	}
}

// feed gives the program what is on standard input, each part as it comes. Errors are those
// of a program that reads no more.
func feed(ctx context.Context, in *client.Client, pid int) {
	buf := make([]byte, 64<<10)
	for {
		n, err := os.Stdin.Read(buf)
		if n > 0 {
			if in.WriteStdin(ctx, pid, bytes.NewReader(buf[:n]), false) != nil {
				return
			}
		}
		if err != nil {
			_ = in.WriteStdin(ctx, pid, bytes.NewReader(nil), true)
			return
		}
	}
}

// attach joins this terminal with the program's until the program ends.
func attach(ctx context.Context, in *client.Client, pid int) error {
	t, err := in.Attach(ctx, pid, 0)
	if err != nil {
		return err
	}
	defer t.Close()
	before, err := term.MakeRaw(int(os.Stdin.Fd()))
	if err != nil {
		return err
	}
	defer func() { _ = term.Restore(int(os.Stdin.Fd()), before) }()
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	go resize(ctx, t, resized)
	go func() { _, _ = io.Copy(t, os.Stdin) }() // until this process ends
	_, err = io.Copy(os.Stdout, t)
	if end := t.End(); end != nil {
		return statusOfProgram(end.End)
	}
	return err
}

func resize(ctx context.Context, t *client.Terminal, resized <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-resized:
			if cols, rows, err := term.GetSize(int(os.Stdout.Fd())); err == nil && rows > 0 && cols > 0 {
				_ = t.Resize(rows, cols)
			}
		}
	}
}

// statusOfProgram returns the exit status that a shell would have for it.
func statusOfProgram(end process.End) error {
	switch {
	case end.TimedOut:
		return statusTimeout
	case end.Signal != nil:
		return exitStatus(128 + int(unix.SignalNum(*end.Signal)))
	case end.ExitCode != 0:
		return exitStatus(end.ExitCode)
	case end.Status == process.SandboxKilled:
		return exitStatus(128 + int(unix.SIGKILL))
	}
	return nil
}
