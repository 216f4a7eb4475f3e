package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func pythonCommand() *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use:   "python",
		Short: "Make the managed Python, if need be, and print the path of its interpreter",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			interpreter, err := s.managedPython(ctx)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), interpreter)
			return nil
		},
	}
	s.addDataDir(cmd)
	return cmd
}
