package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/k2sandbox/k2sandbox/client"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/console"
)

// consoleFlags say whether a server has the web console, and for what.
type consoleFlags struct {
	on, readOnly bool
	asked        func() bool // on was given
}

func (o *consoleFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.on, "console", true, "serve the web console, too, at /console/ (on addresses that other machines reach: only where this is given)")
	cmd.Flags().BoolVar(&o.readOnly, "console-read-only", false, "let the web console show everything and change nothing; only with API keys")
	o.asked = func() bool { return cmd.Flags().Changed("console") }
}

// open returns the sessions of the console's browsers, which are in the folder of the server's state; nil: there is no console.
func (o *consoleFlags) open(ln net.Listener, dir string, keys *server.Keys) (*console.Sessions, error) {
	if o.readOnly && keys.Len() == 0 {
		return nil, errors.New("--console-read-only: needs --api-keys: without any, every page can change everything by the API")
	}
	if tcp, ok := ln.Addr().(*net.TCPAddr); !o.on || ok && !tcp.IP.IsLoopback() && !o.asked() {
		return nil, nil
	}
	return console.OpenSessions(filepath.Join(dir, "console.json"), keys, o.readOnly)
}

// front returns what serves the console before next.
func (o *consoleFlags) front(common server.Options, sessions *console.Sessions, next http.Handler) http.Handler {
	if sessions == nil {
		return next
	}
	return console.New(console.Options{Options: common, Sessions: sessions, Next: next})
}

func consoleCommand() *cobra.Command {
	var (
		r     remote
		quiet bool
	)
	cmd := &cobra.Command{
		Use:   "console",
		Short: "Print and open a link to the web console of a running server",
		Long: `Print a link to the web console of a running server, and open it where there is a desktop.
The link works once, for a minute; the browser that it was opened with is logged in for twelve hours. The API key never gets there.`,
		Args: cobra.NoArgs,
	}
	cmd.RunE = r.with(func(ctx context.Context, c *client.Client, _ []string) error {
		at := r.address()
		if strings.HasPrefix(at, "unix:") {
			return fmt.Errorf("%s is a unix socket, which no browser opens: serve on a loopback address", at)
		}
		link, err := c.ConsoleLink(ctx)
		if err != nil {
			return err
		}
		url := strings.TrimRight(at, "/") + link.Path
		fmt.Fprintln(cmd.OutOrStdout(), url)
		if !quiet && (os.Getenv("DISPLAY") != "" || os.Getenv("WAYLAND_DISPLAY") != "") {
			_ = exec.CommandContext(ctx, "xdg-open", url).Run() // the link is printed
		}
		return nil
	})
	r.add(cmd)
	cmd.Flags().BoolVarP(&quiet, "no-open", "n", false, "only print the link")
	return cmd
}
