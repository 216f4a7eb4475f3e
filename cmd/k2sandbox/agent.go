package main

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/inside"
	"github.com/k2sandbox/k2sandbox/server/jupyter"
	jupyterinside "github.com/k2sandbox/k2sandbox/server/jupyter/inside"
)

func agentCommand() *cobra.Command {
	var (
		s       settings
		l       limits
		p       packageFlags
		t       traces
		address string
		hosts   []string
		root    string
		remote  bool
		trust   bool
	)
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Serve the HTTP API of one sandbox that nothing confines, as its first process",
		Long: `Serve the HTTP API of one sandbox: this process and all that it starts. Code runs as the
user who started it, and nothing keeps it from what that user can reach: in a container
or a virtual machine of its own that is what is wanted. Else take "k2sandbox serve".`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			options, err := l.options()
			if err != nil {
				return err
			}
			if options.Packages, err = p.options(); err != nil {
				return err
			}
			if options.Root, err = rootDir(root); err != nil {
				return err
			}
			s.cwd = cmp.Or(s.cwd, options.Root)
			tracer, ended, err := t.open(s.log())
			if err != nil {
				return err
			}
			defer ended()
			ln, err := listen(address, remote)
			if err != nil {
				return err
			}
			defer ln.Close()
			box, err := s.start(ctx, options)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "listening on %s\n", location(ln))
			if s.logLevel <= slog.LevelInfo {
				fmt.Fprintf(cmd.ErrOrStderr(), "try: %s\n", curl(ln))
			}
			o := server.Options{Log: s.log(), Hosts: hosts, TrustPorts: trust, Tracer: tracer, Version: version}
			h := withParts(inside.New(box, o), map[string]http.Handler{jupyter.Path: jupyterinside.New(box, api.LocalSandbox, o)})
			return serveHTTP(ctx, ln, h, s.log(), box.Close)
		},
	}
	s.addAll(cmd, slog.LevelInfo)
	l.add(cmd)
	p.add(cmd)
	t.add(cmd)
	cmd.Flags().StringVar(&address, "listen", "127.0.0.1:8900", "address: HOST:PORT (port 0: any that is free) or unix:PATH")
	cmd.Flags().StringSliceVar(&hosts, "allow-host", nil, "name that clients may call this server by, besides localhost and its addresses")
	cmd.Flags().StringVar(&root, "root", "", "directory that the files API does not leave and calls \"/\" (it does not confine what code does); also the working directory, unless --cwd is another")
	_ = cmd.MarkFlagDirname("root")
	cmd.Flags().BoolVar(&remote, "unsafe-allow-remote", false, "listen on an address that other machines reach: all of them can run code here, as an agent takes no keys")
	cmd.Flags().BoolVar(&trust, "unsafe-trust-ports", false, "let pages of servers inside, at /v1/ports, act in a browser as pages of this API: whoever wrote them can run code here as you")
	return cmd
}

// rootDir checks the directory that the files API is confined to, if any.
func rootDir(given string) (string, error) {
	if given == "" {
		return "", nil
	}
	dir, err := workingDir(given)
	if err != nil {
		return "", fmt.Errorf("--root: %w", err)
	}
	return dir, nil
}
