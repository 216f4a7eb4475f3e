package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/k2sandbox/k2sandbox/client"
	"github.com/k2sandbox/k2sandbox/process"
)

// benchServer is a server that a benchmark has for itself, on a unix socket in a folder that goes with it.
type benchServer struct {
	python, dataDir string
	url             string // where it is, once started
}

func (s *benchServer) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.python, "python", "", "interpreter of a server of its own, which has ipykernel, in place of the managed Python")
	cmd.Flags().StringVar(&s.dataDir, "data-dir", "", "folder of the managed Python of a server of its own (default $XDG_DATA_HOME/k2sandbox or ~/.local/share/k2sandbox)")
	_ = cmd.MarkFlagDirname("data-dir")
}

func (s *benchServer) given(cmd *cobra.Command) bool {
	return cmd.Flags().Changed("python") || cmd.Flags().Changed("data-dir")
}

// benchStop is how long the server and its sandboxes may take to end.
const benchStop = 30 * time.Second

// start starts it and returns when it answers. end ends it, and its sandboxes.
func (s *benchServer) start(ctx context.Context) (end func() error, err error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("cannot find this program: %w", err)
	}
	guard, dir, err := process.NewGuardedDir("", "k2-bench-")
	if err != nil {
		return nil, err
	}
	s.url = "unix:" + filepath.Join(dir, "serve.sock")
	args := []string{program, "serve", "--listen", s.url, "--state-dir", filepath.Join(dir, "state"), "--log-level", "error", "--orphan-timeout", "60"}
	if s.python != "" {
		args = append(args, "--python", s.python)
	}
	if s.dataDir != "" {
		args = append(args, "--data-dir", s.dataDir)
	}
	p, err := process.Start(process.Command{Args: args, Env: localEnviron(), Stderr: os.Stderr, Guard: guard})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot start a server: %w", err), guard.Close())
	}
	end = func() error {
		p.Stop(context.Background(), benchStop)
		p.Close()
		return guard.Close()
	}
	if err := s.ready(ctx, p); err != nil {
		return nil, errors.Join(err, end())
	}
	return end, nil
}

// ready waits until it answers, also where it has to make its Python first.
func (s *benchServer) ready(ctx context.Context, p *process.Process) error {
	c, err := client.New(s.url, client.Options{})
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, localReady)
	defer cancel()
	for {
		if _, err := c.Ready(ctx); err == nil {
			return nil
		}
		select {
		case <-p.Done():
			return fmt.Errorf("a server of its own ended with status %d", p.Exit().Code)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(localPause):
		}
	}
}
