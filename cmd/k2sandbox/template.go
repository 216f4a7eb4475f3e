package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/k2sandbox/k2sandbox/fleet/template"
)

func templateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "template",
		Short: "Make templates of OCI and Docker images, for sandboxes to be made of",
		Long: `Make templates of OCI and Docker images, with no Docker: each layer is unpacked once into a store below
the data folder, which all servers with that folder and all their sandboxes share.

A sandbox is made of one by its name, where sandboxes are confined by namespaces. Its code runs in the image's own Python where
that has ipykernel, and else in the server's, where the image's C library can run it. It runs as the image's user, or, where that is root, as
an ordinary one.`,
	}
	cmd.AddCommand(templatePullCommand(), templateImportCommand(), templateBuildCommand(), templateListCommand(), templateInspectCommand(), templateRemoveCommand())
	return cmd
}

// store opens the store of templates in the data folder.
func (s *settings) store() (*template.Store, error) {
	dir, err := dataDir(s.dataDir)
	if err != nil {
		return nil, err
	}
	return template.Open(filepath.Join(dir, "templates"), template.Limits{}), nil
}

// withStore runs a command that works on the store.
func withStore(cmd *cobra.Command, run func(ctx context.Context, store *template.Store, args []string) error) *cobra.Command {
	var s settings
	s.addDataDir(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := interruptible(cmd.Context())
		defer stop()
		store, err := s.store()
		if err != nil {
			return err
		}
		return run(ctx, store, args)
	}
	return cmd
}

// adder is a command that adds what its argument names to the store.
func adder(cmd *cobra.Command, add func(*template.Store, context.Context, string, template.Options) (template.Template, error)) *cobra.Command {
	var name string
	cmd.Args = cobra.ExactArgs(1)
	cmd.Flags().StringVar(&name, "name", "", "name of the template (default: that of the image); one that is there is replaced")
	return withStore(cmd, func(ctx context.Context, store *template.Store, args []string) error {
		t, err := add(store, ctx, args[0], template.Options{Name: name, Report: func(p template.Progress) {
			if p.Done {
				fmt.Fprintf(cmd.ErrOrStderr(), "k2sandbox: layer %d of %d is there\n", p.Layer, p.Layers)
			}
		}})
		if err != nil {
			return err
		}
		if left := t.LeftOut(); left != (template.LeftOut{}) {
			fmt.Fprintf(cmd.ErrOrStderr(), "k2sandbox: left out: %s\n", leftOut(left))
		}
		fmt.Fprintln(cmd.OutOrStdout(), t.Name)
		return nil
	})
}

func leftOut(l template.LeftOut) string {
	return fmt.Sprintf("%d devices, %d set-user-ID bits, %d extended attributes, %d owners beyond 65535", l.Devices, l.SetID, l.Xattrs, l.Owners)
}

func templatePullCommand() *cobra.Command {
	return adder(&cobra.Command{
		Use:   "pull IMAGE",
		Short: "Make a template of an image of a registry, and print its name",
		Long: `Make a template of an image of a registry, and print its name. Credentials are those of Docker's configuration
(~/.docker/config.json or $DOCKER_CONFIG, with its credential helpers). What fails half-way goes on from the layers that were there.`,
		Example: `  k2sandbox template pull python:3.12-slim
  k2sandbox template pull ghcr.io/owner/image@sha256:... --name mine`,
	}, (*template.Store).Pull)
}

func templateImportCommand() *cobra.Command {
	return adder(&cobra.Command{
		Use:   "import PATH",
		Short: `Make a template of what "docker save" wrote, or of an OCI layout`,
		Example: `  docker save mine | gzip > mine.tar.gz && k2sandbox template import mine.tar.gz
  k2sandbox template import ./layout --name mine`,
	}, (*template.Store).Import)
}

func templateListCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{Use: "list", Aliases: []string{"ls"}, Short: "List the templates of the store", Args: cobra.NoArgs}
	cmd.Flags().StringVarP(&output, "output", "o", "table", `how to print: "table" or "json"`)
	return withStore(cmd, func(_ context.Context, store *template.Store, _ []string) error {
		if err := oneOf("output", output, "table", "json"); err != nil {
			return err
		}
		all, err := store.List()
		if err != nil {
			return err
		}
		if output == "json" {
			return writeJSON(cmd.OutOrStdout(), all)
		}
		w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "NAME\tAGE\tSIZE\tLAYERS\tLIBC\tPYTHON")
		for _, t := range all {
			libc := t.Libc.Name
			if libc == "glibc" {
				libc += " " + t.Libc.Version.String()
			}
			fmt.Fprintf(w, "%s\t%s\t%dM\t%d\t%s\t%s\n", t.Name, age(time.Since(t.Created)), t.Size()>>20, len(t.Layers), cmp.Or(libc, "-"), plain(cmp.Or(t.Python, "managed")))
		}
		return w.Flush()
	})
}

func templateInspectCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "inspect NAME", Short: "Print what is known of a template, as JSON", Args: cobra.ExactArgs(1)}
	return withStore(cmd, func(_ context.Context, store *template.Store, args []string) error {
		t, err := store.Get(args[0])
		if err != nil {
			return err
		}
		return writeJSON(cmd.OutOrStdout(), t)
	})
}

func templateRemoveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "remove NAME...", Aliases: []string{"rm"}, Short: "Remove templates, and print the name of each", Args: cobra.MinimumNArgs(1),
		Long: "Remove templates, and print the name of each. Sandboxes that are made of one go on; its layers go with the last of them.",
	}
	return withStore(cmd, func(ctx context.Context, store *template.Store, args []string) error {
		var failed error
		for _, name := range args {
			if err := store.Remove(ctx, name); err != nil {
				failed = errors.Join(failed, err)
				continue
			}
			fmt.Fprintln(cmd.OutOrStdout(), name)
		}
		return failed
	})
}
