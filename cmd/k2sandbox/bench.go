package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/internal/bench"
)

type benchFlags struct {
	remote
	own         benchServer
	only        []string
	quick, json bool
}

func benchCommand() *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure a server: runs, output, new sandboxes and resets",
		Long: `Measure a server as its clients see it: a run of 1+1, also in many contexts at once, lines, displays,
create to first result, and reset; each in sandboxes of its own, which are gone afterwards. It takes a minute
or two, and uses what it measures fully.

The server is the one that --url or $K2_API_URL names or, where neither does, one of its own, which ends with it.

Exit status: 0, or 1 where something failed or an answer was not the right one.`,
		Example: `  k2sandbox bench
  k2sandbox bench --url https://k2.example.org --api-key-file key --only latency,create
  k2sandbox bench --quick --json > bench.json`,
		Args: cobra.NoArgs,
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		err := f.run(ctx, cmd)
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			return statusInterrupted
		}
		return err
	}
	f.remote.add(cmd)
	f.own.add(cmd)
	flags := cmd.Flags()
	flags.Lookup("url").Usage = "the server: http://HOST:PORT, https://… or unix:PATH (default $" + urlVariable + ", or one of its own)"
	flags.StringSliceVar(&f.only, "only", nil, "what to measure, of "+strings.Join(bench.Parts(), ", ")+" (default: all)")
	flags.BoolVar(&f.quick, "quick", false, "a tenth of everything")
	flags.BoolVar(&f.json, "json", false, "print JSON, with the seconds of each round")
	return cmd
}

func (f *benchFlags) run(ctx context.Context, cmd *cobra.Command) (err error) {
	options := bench.Options{Only: f.only, Quick: f.quick, Begin: func(part string) {
		fmt.Fprintf(cmd.ErrOrStderr(), "k2sandbox: measuring %s\n", part)
	}}
	if err := options.Check(); err != nil {
		return fmt.Errorf("--only: %w", err)
	}
	f.url = cmp.Or(f.url, os.Getenv(urlVariable))
	if f.url == "" {
		end, err := f.own.start(ctx)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, end()) }()
		f.url = f.own.url
	} else if f.own.given(cmd) {
		return errors.New("--python and --data-dir are for a server of its own, not for that of --url or $" + urlVariable)
	}
	if options.Client, err = f.client(); err != nil {
		return err
	}
	defer options.Client.Close()
	can, err := options.Client.ServerCapabilities(ctx)
	if err != nil {
		return f.explain(err)
	}
	begun := time.Now()
	rows, err := bench.Run(ctx, options)
	if err != nil {
		return err
	}
	return f.show(cmd, can, begun, rows)
}

// show prints what was measured, and returns an error where something failed.
func (f *benchFlags) show(cmd *cobra.Command, server api.ServerCapabilities, begun time.Time, rows []bench.Row) error {
	out := cmd.OutOrStdout()
	if f.json {
		if err := writeJSON(out, map[string]any{
			"server": server, "client_version": version, "began_at": begun.UTC(), "quick": f.quick, "rows": rows,
		}); err != nil {
			return err
		}
	} else if err := bench.Table(out, rows); err != nil {
		return err
	}
	for _, row := range rows {
		if row.Error != "" {
			return exitStatus(1)
		}
	}
	return nil
}
