package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/executor"
)

// Exit statuses of run: 0 and 1 besides, and those of timeout(1) and of a shell.
const (
	statusTimeout     exitStatus = 124
	statusInterrupted exitStatus = 130
)

type runFlags struct {
	settings
	code    string
	out     string
	json    bool
	timeout seconds
	envs    []string
}

func runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run [-c CODE | FILE | -]",
		Short: "Run code in a kernel of its own and stream its output",
		Long: `Run code in a kernel of its own and stream its output: of CODE, FILE or standard
input. The code's standard output and results go to standard output, its standard
error and errors to standard error. input() asks the terminal, or reads standard
input where that is not the code. Ctrl-C interrupts the code; a second one kills it.

Exit status: 0 done, 1 error, 124 timeout, 130 interrupted.`,
		Example: `  k2sandbox run -c '6*7'
  k2sandbox run --timeout 30s --out plots analysis.py
  echo 'print("hello")' | k2sandbox run -`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			code, fromStdin, err := f.source(cmd, args)
			if err != nil {
				return err
			}
			return f.run(cmd, executor.Cell{Code: code, Timeout: time.Duration(f.timeout), AllowStdin: !fromStdin})
		},
	}
	f.addAll(cmd, slog.LevelError)
	cmd.Flags().StringVarP(&f.code, "code", "c", "", "the code itself")
	cmd.Flags().StringVar(&f.out, "out", ".", "folder to save images in; files that are there are kept")
	cmd.Flags().BoolVar(&f.json, "json", false, "print the events, one line of JSON each")
	cmd.Flags().Var(&f.timeout, "timeout", "how long the code may run: seconds, or as in 1m30s (default: no limit)")
	cmd.Flags().StringArrayVarP(&f.envs, "env", "e", nil, "environment variable of the code, NAME=VALUE; may be given many times")
	_ = cmd.MarkFlagDirname("out")
	return cmd
}

// source reads the code, and tells whether it was standard input.
func (f *runFlags) source(cmd *cobra.Command, args []string) (code string, fromStdin bool, err error) {
	given := cmd.Flags().Changed("code")
	switch {
	case given && len(args) > 0:
		return "", false, errors.New("give either -c CODE or a file, not both")
	case given:
		return f.code, false, nil
	case len(args) == 0 && term.IsTerminal(int(os.Stdin.Fd())):
		return "", false, errors.New("nothing to run: give -c CODE, a file, or - for standard input")
	case len(args) == 0 || args[0] == "-":
		raw, err := io.ReadAll(os.Stdin)
		return string(raw), true, err
	}
	raw, err := os.ReadFile(args[0])
	return string(raw), false, err
}

func (f *runFlags) run(cmd *cobra.Command, cell executor.Cell) (err error) {
	envs, err := pairs("env", f.envs)
	if err != nil {
		return err
	}
	starting, started := interruptible(cmd.Context())
	defer started()
	box, err := f.start(starting, agent.Options{Envs: envs})
	if err != nil && starting.Err() != nil {
		return statusInterrupted
	}
	if err != nil {
		return err
	}
	end := sync.OnceValue(box.Close)
	defer func() { err = errors.Join(err, end()) }()
	if starting.Err() != nil {
		return statusInterrupted
	}

	execution, err := box.Submit("", cell)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, endings()...)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // a write that fails, not our death
	started()
	go heed(ctx, signals, "kills the code", execution.Interrupt, end)
	return f.follow(ctx, execution)
}

// heed interrupts the run at the first Ctrl-C, saying what the second one does, which is
// kill, as is what a signal does that asks the whole process to end. It ends with ctx.
func heed(ctx context.Context, signals <-chan os.Signal, second string, interrupt func(context.Context) error, kill func() error) {
	for first := true; ; first = false {
		select {
		case <-ctx.Done():
			return
		case sig := <-signals:
			if first && sig == syscall.SIGINT {
				fmt.Fprintf(os.Stderr, "\nk2sandbox: interrupting; Ctrl-C once more %s\n", second)
				go interrupt(ctx)
				continue
			}
			_ = kill() // its error comes from run, which calls it too
		}
	}
}

// follow shows the events of a run as they come, and returns its exit status.
func (f *runFlags) follow(ctx context.Context, execution *executor.Execution) error {
	show := newDisplay(f.out, execution.Input)
	defer show.close()
	for line, err := range execution.Lines(ctx, 0) {
		if err != nil {
			return err
		}
		event, err := executor.DecodeLine(line)
		if err != nil {
			return err
		}
		var raw []byte
		if f.json {
			raw = line.JSON
		}
		if ended, err := show.event(ctx, event, raw, line.More); ended || err != nil {
			return err
		}
	}
	return errors.New("the run's events ended without an end")
}

func statusOf(status executor.Status) error {
	switch status {
	case executor.OK:
		return nil
	case executor.TimedOut:
		return statusTimeout
	case executor.Interrupted, executor.SandboxKilled, executor.Aborted:
		return statusInterrupted
	}
	return exitStatus(1)
}
