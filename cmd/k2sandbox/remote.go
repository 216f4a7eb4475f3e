package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/client"
)

// Variables of the commands that talk to a server.
const (
	urlVariable = "K2_API_URL"
	keyVariable = "K2_API_KEY"
)

const defaultURL = "http://127.0.0.1:8900"

// remote are the flags that name a server.
type remote struct{ url, keyFile string }

func (r *remote) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&r.url, "url", "", "the server: http://HOST:PORT, https://… or unix:PATH (default $"+urlVariable+" or "+defaultURL+")")
	cmd.Flags().StringVar(&r.keyFile, "api-key-file", "", "file with the API key, or a sandbox's access token (default: the key in $"+keyVariable+")")
	_ = cmd.MarkFlagFilename("api-key-file")
}

func (r *remote) client() (*client.Client, error) {
	key, err := r.key()
	if err != nil {
		return nil, err
	}
	return client.New(r.address(), client.Options{Key: key})
}

// key returns the API key; "" where there is none.
func (r *remote) key() (string, error) {
	key := os.Getenv(keyVariable)
	if r.keyFile != "" {
		raw, err := os.ReadFile(r.keyFile)
		if err != nil {
			return "", fmt.Errorf("--api-key-file: %w", err)
		}
		key = string(raw)
	}
	return strings.TrimSpace(key), nil
}

func (r *remote) address() string { return cmp.Or(r.url, os.Getenv(urlVariable), defaultURL) }

// explain says what to do about an error of a request.
func (r *remote) explain(err error) error {
	var told *client.Error
	var dial *net.OpError
	switch {
	case errors.As(err, &told) && told.API.Code == api.Unauthenticated:
		return fmt.Errorf("%w ($%s or --api-key-file)", err, keyVariable)
	case errors.As(err, &told):
		return err
	case errors.As(err, &dial) && (errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist)):
		return fmt.Errorf("no server answers at %s: start one with k2sandbox serve, or name one by --url or $%s", r.address(), urlVariable)
	}
	return err
}

// with makes of a function what cobra runs: it gets a client, whose errors are explained, and
// a context that ends with the signals that ask this process to end.
func (r *remote) with(do func(ctx context.Context, c *client.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		c, err := r.client()
		if err != nil {
			return err
		}
		defer c.Close()
		err = do(ctx, c, args)
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			return statusInterrupted
		}
		return r.explain(err)
	}
}

// ids completes the id of a sandbox, where only the first argument is one unless all are.
func (r *remote) ids(all bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if !all && len(args) > 0 {
			return nil, cobra.ShellCompDirectiveDefault
		}
		c, err := r.client()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		defer c.Close()
		ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
		defer cancel()
		page, err := c.Sandboxes(ctx, client.SandboxFilter{})
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		var ids []string
		for _, box := range page.Sandboxes {
			ids = append(ids, box.SandboxID)
		}
		return ids, cobra.ShellCompDirectiveNoFileComp
	}
}

// pairs reads NAME=VALUE pairs of a flag.
func pairs(flag string, given []string) (map[string]string, error) {
	read := map[string]string{}
	for _, pair := range given {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--%s %q: want NAME=VALUE", flag, pair)
		}
		read[name] = value
	}
	return read, nil
}
