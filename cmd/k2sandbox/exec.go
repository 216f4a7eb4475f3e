package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/client"
)

type execFlags struct {
	remote
	code, context, cwd, out string
	tty                     bool
	timeout                 seconds
	envs                    []string
}

func execCommand() *cobra.Command {
	var x execFlags
	cmd := &cobra.Command{
		Use:   "exec ID {-c CODE | CODE | FILE | -} | exec ID -- PROGRAM [ARG...]",
		Short: "Run code, or a program, in a sandbox of a running server",
		Long: `Run code in a sandbox of a running server, in the kernel that it has and keeps, and stream
its output as "k2sandbox run" does: CODE, or that of FILE or of standard input. Ctrl-C
interrupts the code; a second one leaves it to itself.

After -- it is a program that runs, which reads standard input; where that and standard
output are a terminal, the program has one, too.

Exit status of code: 0 done, 1 error, 124 timeout, 130 interrupted. That of a program is
its own, or 128 and the number of the signal that ended it.`,
		Example: `  k2sandbox exec sb_… 'import sys; sys.version'
  k2sandbox exec sb_… analysis.py
  k2sandbox exec sb_… -- bash`,
		Args: cobra.MinimumNArgs(1),
	}
	cmd.ValidArgsFunction = x.ids(false)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := x.client()
		if err != nil {
			return err
		}
		defer c.Close()
		signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // a write that fails, not our death
		return x.explain(x.run(cmd, c.In(args[0]), args[1:]))
	}
	x.add(cmd)
	flags := cmd.Flags()
	flags.StringVarP(&x.code, "code", "c", "", "the code itself")
	flags.StringVar(&x.context, "context", "", "the context that runs the code (default: the default one)")
	flags.StringVar(&x.cwd, "cwd", "", "working directory, for this once")
	flags.StringVar(&x.out, "out", ".", "folder to save images in; files that are there are kept")
	flags.Var(&x.timeout, "timeout", "how long it may run: seconds, or as in 1m30s (default: no limit)")
	flags.StringArrayVarP(&x.envs, "env", "e", nil, "environment variable, NAME=VALUE, for this once; may be given many times")
	flags.BoolVarP(&x.tty, "tty", "t", true, "give a program a terminal, where this one has one")
	_ = cmd.MarkFlagDirname("out")
	return cmd
}

func (x *execFlags) run(cmd *cobra.Command, in *client.Client, args []string) error {
	envs, err := pairs("env", x.envs)
	if err != nil {
		return err
	}
	timeout := time.Duration(x.timeout).Seconds()
	if cmd.ArgsLenAtDash() == 1 {
		if len(args) == 0 {
			return errors.New("no program after --")
		}
		if x.code != "" || x.context != "" {
			return errors.New("--code and --context are for code, not for a program")
		}
		return x.program(cmd.Context(), in, api.ProcessRequest{Args: args, Cwd: x.cwd, Envs: envs, Timeout: timeout, Stdin: api.OpenStdin})
	}
	code, fromStdin, err := x.source(cmd, args)
	if err != nil {
		return err
	}
	return x.cell(cmd.Context(), in, api.RunRequest{
		Code: code, Context: x.context, Cwd: x.cwd, Envs: envs, Timeout: timeout, AllowStdin: !fromStdin,
	})
}

// source reads the code, and tells whether it was standard input.
func (x *execFlags) source(cmd *cobra.Command, args []string) (code string, fromStdin bool, err error) {
	given := cmd.Flags().Changed("code")
	switch {
	case len(args) > 1:
		return "", false, errors.New("one argument after the id is expected: code, a file or -; a program comes after --")
	case given && len(args) > 0:
		return "", false, errors.New("give either -c CODE or an argument, not both")
	case given:
		return x.code, false, nil
	case len(args) == 0 && term.IsTerminal(int(os.Stdin.Fd())):
		return "", false, errors.New("nothing to run: give code, a file, or - for standard input; or a program after --")
	case len(args) == 0 || args[0] == "-":
		raw, err := io.ReadAll(os.Stdin)
		return string(raw), true, err
	}
	raw, err := os.ReadFile(args[0])
	if err != nil && (!errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ENAMETOOLONG) || strings.HasSuffix(args[0], ".py")) {
		return "", false, err
	}
	if err != nil {
		return args[0], false, nil
	}
	return string(raw), false, nil
}

// cell runs code, and returns its exit status.
func (x *execFlags) cell(parent context.Context, in *client.Client, req api.RunRequest) error {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, endings()...)
	run, err := in.Submit(ctx, req)
	if err != nil {
		return err
	}
	interrupt := func(ctx context.Context) error {
		_, err := in.InterruptExecution(ctx, run.ExecutionID)
		return err
	}
	leave := func() error {
		defer cancel()
		bounded, done := context.WithTimeout(parent, 2*time.Second)
		defer done()
		return interrupt(bounded)
	}
	go heed(ctx, signals, "leaves it to itself", interrupt, leave)
	show := newDisplay(x.out, func(ctx context.Context, value string) error { return in.Input(ctx, run.ExecutionID, value) })
	defer show.close()
	for event, err := range in.Events(ctx, run.ExecutionID, 0) {
		if ctx.Err() != nil {
			return statusInterrupted
		}
		if err != nil {
			return err
		}
		if ended, err := show.event(ctx, event, nil, false); ended || err != nil {
			return err
		}
	}
	return fmt.Errorf("the events of %s ended without an end", run.ExecutionID)
}
