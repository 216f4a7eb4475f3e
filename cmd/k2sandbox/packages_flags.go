package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/k2sandbox/k2sandbox/packages"
)

// packageFlags say what clients may install, and from where.
type packageFlags packages.Options

func (f *packageFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.Installer, "package-installer", "", "what installs packages: uv or pip (default: uv where there is one)")
	cmd.Flags().StringArrayVar(&f.Index, "package-index", nil, "URL of a package index, in place of the default one; more are looked at besides")
	cmd.Flags().StringArrayVar(&f.FindLinks, "package-find-links", nil, "folder or page with packages to look at besides")
	cmd.Flags().BoolVar(&f.NoIndex, "package-no-index", false, "install from --package-find-links only")
	cmd.Flags().StringSliceVar(&f.Allow, "package-allow", nil, "names of the packages that clients may have installed, and no others")
	cmd.Flags().StringSliceVar(&f.Deny, "package-deny", nil, "names of packages that clients may not have installed")
	cmd.Flags().BoolVar(&f.URLs, "package-urls", false, `let clients install "name @ URL"`)
}

func (f *packageFlags) options() (packages.Options, error) {
	o := packages.Options(*f)
	if err := o.Validate(); err != nil {
		return o, fmt.Errorf("--package-…: %w", err)
	}
	return o, nil
}
