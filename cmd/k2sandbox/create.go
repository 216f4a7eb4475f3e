package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/client"
)

func createCommand() *cobra.Command {
	var (
		r              remote
		timeout        seconds
		metadata, envs []string
		network        api.NetworkRequest
		output         string
		req            api.SandboxRequest
		limits         api.LimitsRequest
	)
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create a sandbox on a running server, and print its id",
		Example: `  id=$(k2sandbox create --timeout 10m --metadata user=ada)
  k2sandbox exec "$id" 'print(6*7)'`,
		Args: cobra.NoArgs,
	}
	cmd.RunE = r.with(func(ctx context.Context, c *client.Client, _ []string) (err error) {
		if err := oneOf("output", output, "id", "json"); err != nil {
			return err
		}
		req.Timeout = time.Duration(timeout).Seconds()
		if req.Metadata, err = pairs("metadata", metadata); err != nil {
			return err
		}
		if req.Envs, err = pairs("env", envs); err != nil {
			return err
		}
		req.Limits, req.Network = &limits, &network
		box, err := c.CreateSandbox(ctx, req)
		if err != nil {
			return err
		}
		if output == "json" {
			return writeJSON(cmd.OutOrStdout(), box)
		}
		fmt.Fprintln(cmd.OutOrStdout(), box.SandboxID)
		return nil
	})
	r.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&req.Template, "template", "", "what the sandbox is made of (default: the server's)")
	flags.StringVar(&req.Cwd, "cwd", "", "working directory of its code")
	flags.Var(&timeout, "timeout", "how long it may do nothing before it ends: seconds, or as in 10m (default: the server's)")
	flags.StringArrayVarP(&metadata, "metadata", "m", nil, "NAME=VALUE to find it by; may be given many times")
	flags.StringArrayVarP(&envs, "env", "e", nil, "environment variable of its code, NAME=VALUE; may be given many times")
	flags.IntVar(&limits.MemoryMB, "memory", 0, "MiB of memory (0: the server's default, as for the others)")
	flags.Float64Var(&limits.CPUs, "cpus", 0, "cores")
	flags.IntVar(&limits.Pids, "pids", 0, "processes and threads")
	flags.IntVar(&limits.DiskMB, "disk", 0, "MiB of files")
	flags.StringVar((*string)(&network.Mode), "network", "", `what it reaches: "full", "packages", which is the package indexes alone, "allow", or "none" (default: the server's, and "allow" with --allow)`)
	flags.StringSliceVar(&network.Allow, "allow", nil, "host (example.org, *.example.org), address or range of them that it reaches, and nothing else; :PORT may follow; may be given many times")
	flags.StringVarP(&output, "output", "o", "id", `what to print: "id", or "json" for all that there is to know, its access token included`)
	return cmd
}

// oneOf checks the value of a flag.
func oneOf(flag, value string, known ...string) error {
	for _, k := range known {
		if value == k {
			return nil
		}
	}
	return fmt.Errorf("--%s %q: want one of %q", flag, value, known)
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
