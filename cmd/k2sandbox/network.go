package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/client"
)

func networkCommand() *cobra.Command {
	var (
		r     remote
		allow []string
	)
	cmd := &cobra.Command{
		Use:   "network ID [MODE]",
		Short: "Show or change what a sandbox of a running server reaches",
		Long: `Show what a sandbox of a running server reaches, or have it reach something else from now on: MODE is "full", "packages",
"allow" or "none", and "allow" where --allow is given without one. Connections that are open and not allowed any more are reset.
A sandbox that was created with the network "none" gets no other.`,
		Example: `  k2sandbox network "$id" --allow api.example.org --allow '*.example.com:443'
  k2sandbox network "$id" none`,
		Args: cobra.RangeArgs(1, 2),
	}
	ids := r.ids(false)
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, start string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 1 {
			var modes []string
			for _, mode := range api.NetworkModes {
				modes = append(modes, string(mode))
			}
			return modes, cobra.ShellCompDirectiveNoFileComp
		}
		return ids(cmd, args, start)
	}
	cmd.RunE = r.with(func(ctx context.Context, c *client.Client, args []string) error {
		var box api.Sandbox
		var err error
		if len(args) == 1 && len(allow) == 0 {
			box, err = c.GetSandbox(ctx, args[0])
		} else {
			box, err = c.SetNetwork(ctx, args[0], api.NetworkRequest{Mode: api.NetworkMode(strings.Join(args[1:], "")), Allow: allow})
		}
		if err != nil {
			return err
		}
		fmt.Fprintln(cmd.OutOrStdout(), plain(strings.Join(append([]string{string(box.Network.Mode)}, box.Network.Allow...), " ")))
		return nil
	})
	r.add(cmd)
	cmd.Flags().StringSliceVar(&allow, "allow", nil, "host (example.org, *.example.org), address or range of them that it reaches; :PORT may follow; may be given many times")
	return cmd
}
