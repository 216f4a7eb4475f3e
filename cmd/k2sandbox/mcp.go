package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/k2sandbox/k2sandbox/server/mcp"
)

// bridge are the flags of the MCP server on standard input and output.
type bridge struct {
	r                remote
	session, sandbox string
	logLevel         slog.Level
}

func mcpCommand() *cobra.Command {
	var o bridge
	cmd := &cobra.Command{
		Use:   "mcp",
		Short: "Speak the Model Context Protocol on standard input and output, for its clients to start",
		Long: `Speak the Model Context Protocol (MCP) on standard input and output, for its clients to start.

The tools work in sandboxes of the server that --url or $K2_API_URL names or, where neither does, of one of your own,
which is started when the first tool is called, shared with the Python package, and ends by itself when nobody has used it
for a while. The sandbox that calls use by default ends when the client leaves, unless --session names it.

Clients that speak HTTP need no such command: a server speaks MCP at /mcp.`,
		Example: `  claude mcp add k2sandbox -- k2sandbox mcp
  codex mcp add k2sandbox -- k2sandbox mcp
  code --add-mcp '{"name":"k2sandbox","command":"k2sandbox","args":["mcp"]}'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			return o.run(ctx, cmd)
		},
	}
	o.r.add(cmd)
	cmd.Flags().Lookup("url").Usage = "the server: http://HOST:PORT, https://… or unix:PATH (default $" + urlVariable + ", or one of your own)"
	cmd.Flags().StringVar(&o.session, "session", "", "name of the session: calls use its sandbox by default, which stays for the next client that gives the name")
	cmd.Flags().StringVar(&o.sandbox, "sandbox", "", "id of the sandbox that calls use by default")
	cmd.Flags().TextVar(&o.logLevel, "log-level", slog.LevelWarn, "what to log on standard error: debug, info, warn or error")
	cmd.MarkFlagsMutuallyExclusive("session", "sandbox")
	_ = cmd.RegisterFlagCompletionFunc("sandbox", o.r.ids(true))
	return cmd
}

func (o *bridge) run(ctx context.Context, cmd *cobra.Command) error {
	key, err := o.r.key()
	if err != nil {
		return err
	}
	find, err := o.find()
	if err != nil {
		return err
	}
	b := mcp.NewBridge(mcp.BridgeOptions{
		Version: version, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: o.logLevel})), Find: find, Key: key,
		Session: cmp.Or(o.session, rand.Text()), Sandbox: o.sandbox, Keep: o.session != "",
	})
	err = b.Serve(ctx, cmd.InOrStdin(), cmd.OutOrStdout())
	if errors.Is(err, context.Canceled) {
		err = nil // it was asked to end
	}
	return err
}

// find returns what finds the server.
func (o *bridge) find() (func(context.Context) (mcp.Server, error), error) {
	address := cmp.Or(o.r.url, os.Getenv(urlVariable))
	if address != "" {
		at, err := serverAt(address)
		return func(context.Context) (mcp.Server, error) { return at, nil }, err
	}
	local, err := newLocalServer()
	if err != nil {
		return nil, err
	}
	at, err := serverAt("unix:" + local.socket)
	return func(ctx context.Context) (mcp.Server, error) { return at, local.ready(ctx) }, err
}

// serverAt returns the server at an address.
func serverAt(address string) (mcp.Server, error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return mcp.Server{URL: "http://localhost", Client: &http.Client{Transport: unixTransport(path)}}, nil
	}
	if !strings.HasPrefix(address, "http://") && !strings.HasPrefix(address, "https://") {
		return mcp.Server{}, fmt.Errorf("cannot use address %q: expected http://HOST:PORT, https://… or unix:PATH", address)
	}
	return mcp.Server{URL: address, Client: &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}}, nil
}
