package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/k2sandbox/k2sandbox/client"
)

func killCommand() *cobra.Command {
	var (
		r    remote
		soft bool
	)
	cmd := &cobra.Command{
		Use:   "kill ID...",
		Short: "End sandboxes of a running server",
		Long: `End sandboxes of a running server, with all that is in them, and print the id of each.
Nothing is left of a sandbox once its id is printed.`,
		Example: `  k2sandbox kill $(k2sandbox ps -q --metadata user=ada)`,
		Args:    cobra.MinimumNArgs(1),
	}
	cmd.ValidArgsFunction = r.ids(true)
	cmd.RunE = r.with(func(ctx context.Context, c *client.Client, ids []string) error {
		end := c.KillSandbox
		if soft {
			end = c.CloseSandbox
		}
		var failed error
		for _, id := range ids {
			if err := end(ctx, id); err != nil {
				failed = errors.Join(failed, fmt.Errorf("cannot kill %s: %w", id, r.explain(err)))
				continue
			}
			fmt.Fprintln(cmd.OutOrStdout(), id)
		}
		return failed
	})
	r.add(cmd)
	cmd.Flags().BoolVar(&soft, "close", false, "let kernels shut down and processes end by SIGTERM before")
	return cmd
}
