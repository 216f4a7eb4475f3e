package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/k2sandbox/k2sandbox/client"
	"github.com/k2sandbox/k2sandbox/kernel/python"
)

// lab are the flags of a JupyterLab.
type lab struct {
	r        remote
	s        settings
	address  string
	notebook string // the folder of notebooks
}

func labCommand() *cobra.Command {
	var o lab
	cmd := &cobra.Command{
		Use:   "lab [SANDBOX]",
		Short: "Start a JupyterLab whose kernels are in sandboxes of a running server",
		Long: `Start a JupyterLab whose kernels are in sandboxes of a running server. With a SANDBOX all of them are in that
one, and so are the files and terminals that JupyterLab shows: nothing runs here.

Without, each notebook gets a sandbox, and JupyterLab shows the files of a folder here. What code shows as HTML or
JavaScript runs in the page, as in every JupyterLab: then it reaches that folder's files that are not hidden, and all
sandboxes that your key does. For code that you do not trust name a SANDBOX.

The first time JupyterLab is installed, beside the managed Python and apart from it.`,
		Example: `  k2sandbox lab
  k2sandbox lab sbx_0123456789abcdef
  k2sandbox lab --dir ~/notebooks --listen 127.0.0.1:9000`,
		Args: cobra.MaximumNArgs(1),
	}
	cmd.ValidArgsFunction = o.r.ids(false)
	cmd.RunE = o.r.with(func(ctx context.Context, c *client.Client, args []string) error {
		id := strings.Join(args, "")
		if err := o.check(ctx, c, id); err != nil {
			return err
		}
		return o.run(ctx, cmd, c, id)
	})
	o.r.add(cmd)
	o.s.addDataDir(cmd)
	cmd.Flags().StringVar(&o.address, "listen", "127.0.0.1:8888", "address of JupyterLab: HOST:PORT of loopback (port 0: any that is free)")
	cmd.Flags().StringVar(&o.notebook, "dir", "", "folder of the notebooks, without a SANDBOX (default: this one)")
	cmd.Flags().TextVar(&o.s.logLevel, "log-level", slog.LevelWarn, "what to log on standard error: debug, info, warn or error")
	_ = cmd.MarkFlagDirname("dir")
	return cmd
}

// check finds out whether there is a server, and the sandbox in it.
func (o *lab) check(ctx context.Context, c *client.Client, id string) error {
	if id != "" {
		_, err := c.GetSandbox(ctx, id)
		return err
	}
	_, err := c.Sandboxes(ctx, client.SandboxFilter{})
	return err
}

// run serves JupyterLab until ctx is done or its server ends.
func (o *lab) run(ctx context.Context, cmd *cobra.Command, c *client.Client, id string) error {
	dir, err := workingDir(o.notebook)
	if err != nil {
		return err
	}
	data, err := dataDir(o.s.dataDir)
	if err != nil {
		return err
	}
	if strings.HasPrefix(o.address, "unix:") {
		return fmt.Errorf("--listen %q: want HOST:PORT, as browsers do", o.address)
	}
	ln, err := listen(o.address, false)
	if err != nil {
		return err
	}
	defer ln.Close()
	interpreter, err := o.environment(ctx, data)
	if err != nil {
		return err
	}
	token := strings.ToLower(rand.Text())
	jupyter, err := startLab(ctx, labOptions{
		interpreter: interpreter, folder: filepath.Join(data, "lab"), notebooks: dir, token: token, kernels: location(ln), sandboxed: id != "",
	})
	if err != nil {
		return err
	}
	log := o.s.log()
	front := newLabFront(c, jupyter.proxy(token), token, id, ln.Addr().String(), log)
	fmt.Fprintf(cmd.OutOrStdout(), "open %s/lab?token=%s\n", location(ln), token)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel()
		<-jupyter.process.Done()
	}()
	return serveHTTP(ctx, ln, front, log, jupyter.close)
}

// environment returns the interpreter that has JupyterLab.
func (o *lab) environment(ctx context.Context, data string) (string, error) {
	show, finish := reporter(os.Stderr)
	defer finish()
	first := sync.OnceFunc(func() {
		fmt.Fprintf(os.Stderr, "k2sandbox: installing JupyterLab, in %s: once, which takes a minute or so\n", data)
	})
	return python.Ensure(ctx, data, python.Options{Lab: true, Report: func(p python.Progress) { first(); show(p) }})
}
