package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"github.com/spf13/cobra"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/kernel/python"
)

// settings are the flags that commands with a kernel have in common.
type settings struct {
	python, kernel, cwd, dataDir string
	launcher                     launcher
	logLevel                     slog.Level
	kernelArgs                   []string // for a Python that is started by its interpreter
}

func (s *settings) addDataDir(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.dataDir, "data-dir", "", "folder of the managed Python (default $XDG_DATA_HOME/k2sandbox or ~/.local/share/k2sandbox)")
	_ = cmd.MarkFlagDirname("data-dir")
}

// addInterpreter adds those that every command with a kernel has.
func (s *settings) addInterpreter(cmd *cobra.Command, defaultLevel slog.Level) {
	s.addDataDir(cmd)
	cmd.Flags().StringVar(&s.python, "python", "", "use this interpreter, which has ipykernel, in place of the managed Python")
	s.launcher = fastLauncher
	cmd.Flags().Var(&s.launcher, "kernel-launcher", "way of messages in Python's kernels: fast, or stock, which is ipykernel's own and takes twice the time")
	_ = cmd.RegisterFlagCompletionFunc("kernel-launcher", cobra.FixedCompletions([]string{fastLauncher, stockLauncher}, cobra.ShellCompDirectiveNoFileComp))
	cmd.Flags().TextVar(&s.logLevel, "log-level", defaultLevel, "what to log on standard error: debug, info, warn or error")
}

func (s *settings) addAll(cmd *cobra.Command, defaultLevel slog.Level) {
	s.addInterpreter(cmd, defaultLevel)
	cmd.Flags().StringVar(&s.kernel, "kernel", "", "use this installed kernelspec in place of the managed Python")
	cmd.Flags().StringVar(&s.cwd, "cwd", "", "working directory of the code (default: this one)")
	cmd.MarkFlagsMutuallyExclusive("python", "kernel")
	_ = cmd.MarkFlagDirname("cwd")
	_ = cmd.RegisterFlagCompletionFunc("kernel", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		specs, _ := kernel.List(s.searchPath())
		var names []string
		for _, spec := range specs {
			names = append(names, spec.Name)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	})
}

// start makes the sandbox: what Python it needs, and then its default kernel.
func (s *settings) start(ctx context.Context, o agent.Options) (*agent.Sandbox, error) {
	var err error
	if o.Cwd, err = workingDir(s.cwd); err != nil {
		return nil, err
	}
	if o.Spec, err = s.spec(ctx); err != nil {
		return nil, err
	}
	if s.kernel == "" {
		o.Spec.Argv = append(slices.Clone(o.Spec.Argv), s.kernelArgs...)
	}
	path := s.searchPath()
	o.Find = func(name string) (kernel.Spec, error) { return kernel.Find(name, path) }
	o.List = func() []kernel.Spec { specs, _ := kernel.List(path); return specs }
	o.Log = s.log()
	o.Init = os.Getpid() == 1 // of a container
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(1) // what one sandbox does is quicker so, and the cores are for its code
	}
	return agent.New(ctx, o)
}

func (s *settings) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: s.logLevel}))
}

// spec returns the kernel of the default context.
func (s *settings) spec(ctx context.Context) (kernel.Spec, error) {
	if s.kernel != "" {
		return kernel.Find(s.kernel, s.searchPath())
	}
	if s.python != "" {
		interpreter, err := exec.LookPath(s.python)
		if err != nil {
			return kernel.Spec{}, fmt.Errorf("--python: %w", err)
		}
		interpreter, err = filepath.Abs(interpreter)
		return s.launcher.spec(interpreter), err
	}
	interpreter, err := s.managedPython(ctx)
	return s.launcher.spec(interpreter), err
}

// searchPath is where kernelspecs are: with --python, in its installation too.
func (s *settings) searchPath() kernel.SearchPath {
	if interpreter, err := exec.LookPath(s.python); err == nil {
		return kernel.DefaultSearchPath(os.Getenv, filepath.Dir(filepath.Dir(interpreter)))
	}
	return kernel.DefaultSearchPath(os.Getenv)
}

func (s *settings) managedPython(ctx context.Context) (string, error) {
	dir, err := dataDir(s.dataDir)
	if err != nil {
		return "", err
	}
	show, finish := reporter(os.Stderr)
	defer finish()
	first := sync.OnceFunc(func() {
		fmt.Fprintf(os.Stderr, "k2sandbox: making the Python that code runs in, in %s: once, which takes a minute or so\n", dir)
	})
	return python.Ensure(ctx, dir, python.Options{Report: func(p python.Progress) { first(); show(p) }})
}

func workingDir(given string) (string, error) {
	dir, err := filepath.Abs(given)
	if err != nil {
		return "", fmt.Errorf("cannot find working directory: %w", err)
	}
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = errors.New("not a directory")
	}
	if err != nil {
		return "", fmt.Errorf("cannot use working directory %s: %w", dir, err)
	}
	return dir, nil
}
