package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/client"
)

// top shows what sandboxes use, as top(1) does of processes.
type top struct {
	r        remote
	once     bool
	json     bool
	every    seconds
	sort     string
	metadata []string
	out      io.Writer

	last map[string]api.Usage // of each sandbox at the frame before
}

func topCommand() *cobra.Command {
	t := top{every: seconds(2 * time.Second)}
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show what the sandboxes of a running server use, the busiest first",
		Long: `Show what the sandboxes of a running server use, the busiest first, again and again until Ctrl-C.
CPU is of the time since the frame before: 100% is one core. What is not known where the server runs is "-".
Where standard output is no terminal there is one frame, as with --once.`,
		Example: `  k2sandbox top --sort memory
  k2sandbox top --json | jq '.[0].usage'`,
		Args: cobra.NoArgs,
	}
	cmd.RunE = t.r.with(func(ctx context.Context, c *client.Client, _ []string) error {
		t.out = cmd.OutOrStdout()
		return t.run(ctx, c)
	})
	t.r.add(cmd)
	cmd.Flags().BoolVar(&t.once, "once", false, "show one frame and end")
	cmd.Flags().BoolVar(&t.json, "json", false, "show one frame, as JSON: what GET /v1/sandboxes?usage=true tells")
	cmd.Flags().VarP(&t.every, "interval", "d", "time between two frames")
	cmd.Flags().StringVar(&t.sort, "sort", "cpu", `what the first has most of: "cpu", "memory", "peak", "disk", "network", "pids" or "age"`)
	cmd.Flags().StringArrayVarP(&t.metadata, "metadata", "m", nil, "only those with NAME=VALUE; may be given many times")
	cmd.MarkFlagsMutuallyExclusive("once", "json")
	return cmd
}

// leastInterval is the shortest time between two frames: a measurement is no newer.
const leastInterval = time.Second

func (t *top) run(ctx context.Context, c *client.Client) error {
	if err := oneOf("sort", t.sort, "cpu", "memory", "peak", "disk", "network", "pids", "age"); err != nil {
		return err
	}
	filter, err := pairs("metadata", t.metadata)
	if err != nil {
		return err
	}
	if time.Duration(t.every) < leastInterval {
		return fmt.Errorf("--interval %v: want %v at least", time.Duration(t.every).Seconds(), leastInterval.Seconds())
	}
	screen := terminal(t.out)
	tick := time.NewTicker(time.Duration(t.every))
	defer tick.Stop()
	for {
		boxes, err := listAll(ctx, c, client.SandboxFilter{Metadata: filter, Usage: true})
		if ctx.Err() != nil {
			return nil // as top(1)
		}
		if err != nil {
			return err
		}
		t.arrange(boxes)
		if t.json {
			return writeJSON(t.out, boxes)
		}
		if err := t.show(screen, boxes, time.Now()); err != nil || t.once || screen == nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// terminal returns the file where it is a terminal, else nil.
func terminal(w io.Writer) *os.File {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return f
	}
	return nil
}

// arrange makes the CPU that of the time since the frame before, and sorts.
func (t *top) arrange(boxes []api.Sandbox) {
	now := map[string]api.Usage{}
	for i := range boxes {
		u := boxes[i].Usage
		if u == nil {
			continue
		}
		now[boxes[i].SandboxID] = *u
		if before, ok := t.last[boxes[i].SandboxID]; ok && u.CPUSeconds != nil && before.CPUSeconds != nil {
			if took := u.Time.Sub(before.Time).Seconds(); took > 0 {
				used := max(0, *u.CPUSeconds-*before.CPUSeconds) / took
				u.CPUs = &used
			}
		}
	}
	t.last = now
	slices.SortStableFunc(boxes, func(a, b api.Sandbox) int {
		return cmp.Or(cmp.Compare(t.key(b), t.key(a)), a.CreatedAt.Compare(b.CreatedAt))
	})
}

// key is what the first has most of.
func (t *top) key(box api.Sandbox) float64 {
	if t.sort == "age" {
		return -float64(box.CreatedAt.UnixMilli())
	}
	u := box.Usage
	if u == nil {
		return -1
	}
	switch t.sort {
	case "memory":
		return known(u.MemoryBytes)
	case "peak":
		return known(u.MemoryPeakBytes)
	case "disk":
		return known(u.DiskBytes)
	case "network":
		return known(u.ReceivedBytes) + known(u.SentBytes)
	case "pids":
		return known(u.Pids)
	}
	return known(u.CPUs)
}

func known[N int64 | float64](n *N) float64 {
	if n == nil {
		return -1
	}
	return float64(*n)
}

// show writes a frame: on a terminal in place of the one before, and no more than it has room for.
func (t *top) show(screen *os.File, boxes []api.Sandbox, now time.Time) error {
	var frame bytes.Buffer
	writeTop(&frame, boxes, now)
	text := frame.String()
	if screen != nil && !t.once {
		if width, height, err := term.GetSize(int(screen.Fd())); err == nil {
			text = fit(text, width, height)
		}
		text = "\x1b[H" + strings.ReplaceAll(text, "\n", "\x1b[K\n") + "\x1b[J" // from the first place on, clearing what is behind
	}
	_, err := io.WriteString(t.out, text)
	if err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("cannot write output: %w", err)
	}
	return err
}

// fit cuts a text to the size of a terminal.
func fit(text string, width, height int) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) > height && height > 0 {
		lines = lines[:height]
	}
	for i, line := range lines {
		if characters := []rune(line); len(characters) > width && width > 0 {
			lines[i] = string(characters[:width])
		}
	}
	return strings.Join(lines, "\n")
}

func writeTop(w io.Writer, boxes []api.Sandbox, now time.Time) {
	states := map[api.SandboxState]int{}
	var cpus, memory float64
	for _, box := range boxes {
		states[box.State]++
		if box.Usage != nil {
			cpus, memory = cpus+max(0, known(box.Usage.CPUs)), memory+max(0, known(box.Usage.MemoryBytes))
		}
	}
	fmt.Fprintf(w, "%s  %d sandboxes: %d running, %d paused  CPU %.0f%%  memory %s\n\n", now.Format(time.TimeOnly),
		len(boxes), states[api.SandboxRunning], states[api.SandboxPaused], 100*cpus, amount(int64(memory)))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join([]string{"ID", "STATE", "CPU%", "TIME", "MEMORY", "PEAK", "LIMIT", "PIDS", "DISK", "RECEIVED", "SENT", "OOM", "AGE", "METADATA"}, "\t"))
	for _, box := range boxes {
		fmt.Fprintln(t, strings.Join(topRow(box, now), "\t"))
	}
	_ = t.Flush() // to a buffer
}

func topRow(box api.Sandbox, now time.Time) []string {
	u := box.Usage
	if u == nil {
		u = &api.Usage{}
	}
	cells := []string{box.SandboxID, string(box.State), "-", "-"}
	if u.CPUs != nil {
		cells[2] = strconv.FormatFloat(100**u.CPUs, 'f', 1, 64)
	}
	if u.CPUSeconds != nil {
		cells[3] = age(time.Duration(*u.CPUSeconds * float64(time.Second)))
	}
	cells = append(cells, size(u.MemoryBytes), size(u.MemoryPeakBytes), amount(int64(box.Limits.MemoryMB)<<20), number(u.Pids), size(u.DiskBytes),
		size(u.ReceivedBytes), size(u.SentBytes), number(u.OOMKills))
	return append(cells, age(now.Sub(box.CreatedAt)), labels(box.Metadata))
}

func number(n *int64) string {
	if n == nil {
		return "-"
	}
	return strconv.FormatInt(*n, 10)
}

func size(n *int64) string {
	if n == nil {
		return "-"
	}
	return amount(*n)
}

// amount is a number of bytes in few characters.
func amount(n int64) string {
	value, unit := float64(n), 0
	for ; value >= 1024 && unit < 4; unit++ {
		value /= 1024
	}
	if unit == 0 || value >= 100 {
		return fmt.Sprintf("%.0f%c", value, "BKMGT"[unit])
	}
	return fmt.Sprintf("%.1f%c", value, "BKMGT"[unit])
}
