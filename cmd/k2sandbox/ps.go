package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/client"
)

func psCommand() *cobra.Command {
	var (
		r          remote
		all, quiet bool
		metadata   []string
		output     string
	)
	cmd := &cobra.Command{
		Use:     "ps",
		Aliases: []string{"ls"},
		Short:   "List the sandboxes of a running server",
		Args:    cobra.NoArgs,
	}
	cmd.RunE = r.with(func(ctx context.Context, c *client.Client, _ []string) error {
		if err := oneOf("output", output, "table", "wide", "json"); err != nil {
			return err
		}
		filter, err := pairs("metadata", metadata)
		if err != nil {
			return err
		}
		boxes, err := listAll(ctx, c, client.SandboxFilter{Metadata: filter})
		if err == nil && all {
			var ended []api.Sandbox
			ended, err = listAll(ctx, c, client.SandboxFilter{Metadata: filter, State: api.SandboxEnded})
			boxes = append(boxes, ended...)
		}
		if err != nil {
			return err
		}
		warnOf(cmd.ErrOrStderr(), boxes)
		switch {
		case quiet:
			for _, box := range boxes {
				fmt.Fprintln(cmd.OutOrStdout(), box.SandboxID)
			}
			return nil
		case output == "json":
			return writeJSON(cmd.OutOrStdout(), boxes)
		}
		return writeTable(cmd.OutOrStdout(), boxes, output == "wide", time.Now())
	})
	r.add(cmd)
	cmd.Flags().BoolVarP(&all, "all", "a", false, "also those that have ended, which are known for a day")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print ids only")
	cmd.Flags().StringArrayVarP(&metadata, "metadata", "m", nil, "only those with NAME=VALUE; may be given many times")
	cmd.Flags().StringVarP(&output, "output", "o", "table", `how to print: "table", "wide" or "json"`)
	return cmd
}

// listAll lists all pages.
func listAll(ctx context.Context, c *client.Client, f client.SandboxFilter) ([]api.Sandbox, error) {
	f.Limit = 1000
	boxes := []api.Sandbox{}
	for {
		page, err := c.Sandboxes(ctx, f)
		if err != nil {
			return nil, err
		}
		boxes = append(boxes, page.Sandboxes...)
		if f.Cursor = page.NextCursor; f.Cursor == "" {
			return boxes, nil
		}
	}
}

// warnOf says which sandboxes nothing confines.
func warnOf(w io.Writer, boxes []api.Sandbox) {
	open := 0
	for _, box := range boxes {
		if box.Isolation.Warning != "" {
			open++
		}
	}
	if open > 0 {
		fmt.Fprintf(w, "warning: isolation is none in %d of %d sandboxes: their code can do all that the server can\n", open, len(boxes))
	}
}

func writeTable(w io.Writer, boxes []api.Sandbox, wide bool, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	head := []string{"ID", "STATE", "AGE", "IDLE", "ISOLATION", "METADATA"}
	if wide {
		head = append(head, "TIMEOUT", "MEMORY", "CPUS", "PIDS", "DISK", "NETWORK", "CWD", "TEMPLATE")
	}
	fmt.Fprintln(t, strings.Join(head, "\t"))
	for _, box := range boxes {
		fmt.Fprintln(t, strings.Join(row(box, wide, now), "\t"))
	}
	return t.Flush()
}

func row(box api.Sandbox, wide bool, now time.Time) []string {
	state, idle := string(box.State), age(now.Sub(box.LastActiveAt))
	if box.EndedAt != nil {
		state, idle = fmt.Sprintf("%s (%s %s ago)", box.State, box.Reason, age(now.Sub(*box.EndedAt))), "-"
	}
	cells := []string{box.SandboxID, state, age(now.Sub(box.CreatedAt)), idle, cmp.Or(box.Isolation.Level, "-"), labels(box.Metadata)}
	if wide {
		l := box.Limits
		cells = append(cells, age(time.Duration(box.Timeout*float64(time.Second))), fmt.Sprintf("%dM", l.MemoryMB), strconv.FormatFloat(l.CPUs, 'g', -1, 64),
			strconv.Itoa(l.Pids), fmt.Sprintf("%dM", l.DiskMB), string(box.Network.Mode), plain(box.Cwd), plain(box.Template))
	}
	return cells
}

// age is a length of time in few characters.
func age(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
}

func labels(metadata map[string]string) string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(metadata)) {
		all = append(all, plain(key)+"="+plain(metadata[key]))
	}
	return cmp.Or(strings.Join(all, ","), "-")
}

// plain makes a text that somebody else wrote fit for a line of a terminal.
func plain(text string) string {
	if !strings.ContainsFunc(text, func(r rune) bool { return !strconv.IsPrint(r) || r == '"' }) {
		return text
	}
	return strconv.Quote(text)
}
