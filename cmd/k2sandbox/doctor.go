package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// verdict is what a check came to.
type verdict string

const (
	ok   verdict = "ok"
	warn verdict = "warn"
	fail verdict = "fail"
)

// finding is a line of doctor: what was looked at, how it is, and the cure where it
// is not well.
type finding struct {
	verdict verdict
	what    string
	how     string
	cure    string
}

func doctorCommand() *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check what this machine has, and say what is missing",
		Long:  "Check what this machine has, and say what is missing. Exit status 1 where something is that k2sandbox cannot do without.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return report(cmd.OutOrStdout(), s.examine(cmd.Context()))
		},
	}
	s.addDataDir(cmd)
	return cmd
}

func report(w io.Writer, findings []finding) error {
	failed := 0
	for _, f := range findings {
		fmt.Fprintf(w, "%-5s %-12s %s\n", f.verdict, f.what, f.how)
		if f.verdict != ok && f.cure != "" {
			fmt.Fprintf(w, "%s→ %s\n", strings.Repeat(" ", 19), f.cure)
		}
		if f.verdict == fail {
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d checks failed", failed, len(findings))
	}
	return nil
}
