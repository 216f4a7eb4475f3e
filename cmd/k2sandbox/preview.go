package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/client"
	"github.com/k2sandbox/k2sandbox/server"
)

// previewDomain returns the domain of previews: the one that is asked for, or, where this machine alone reaches the server, the one
// whose names all browsers take for their own machine's.
func (o *serving) previewDomain(ln net.Listener) (server.PreviewDomain, error) {
	given := o.preview
	if at, ok := ln.Addr().(*net.TCPAddr); given == "" && ok && at.IP.IsLoopback() && o.base == "" && !o.behind {
		given = "localhost"
	}
	domain, err := server.ParsePreviewDomain(given)
	if err != nil {
		return domain, fmt.Errorf("--preview-domain %w", err)
	}
	return domain, nil
}

func previewCommand() *cobra.Command {
	var (
		r       remote
		expires = seconds(api.PreviewTime * time.Second)
	)
	cmd := &cobra.Command{
		Use:   "preview ID PORT",
		Short: "Print a link to a server inside a sandbox, for a browser",
		Long: `Print a link to what listens on a port inside a sandbox of a running server. Who has the link gets in, until it
expires or the sandbox ends: it takes no API key, and opens nothing else.`,
		Example: `  k2sandbox preview "$id" 8000
  k2sandbox preview --expires 10m "$id" 3000`,
		Args: cobra.ExactArgs(2),
	}
	cmd.ValidArgsFunction = r.ids(false)
	cmd.RunE = r.with(func(ctx context.Context, c *client.Client, args []string) error {
		port, err := strconv.Atoi(args[1])
		if err != nil {
			return fmt.Errorf("PORT %q: want a number", args[1])
		}
		link, err := c.Preview(ctx, args[0], api.PreviewRequest{Port: port, ExpiresIn: time.Duration(expires).Seconds()})
		if err != nil {
			return err
		}
		fmt.Fprintln(cmd.OutOrStdout(), link.URL)
		return nil
	})
	r.add(cmd)
	cmd.Flags().Var(&expires, "expires", "how long the link works: seconds, or as in 10m; a day at most")
	return cmd
}
