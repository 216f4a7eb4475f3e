package bench

import (
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
	"time"
)

// Row is what was measured of one thing.
type Row struct {
	Part      string    `json:"part"`
	Name      string    `json:"name"`
	Seconds   []float64 `json:"seconds"`    // of each round
	P50       float64   `json:"p50"`        // seconds, as those that follow
	P90       float64   `json:"p90"`        //
	P99       float64   `json:"p99"`        //
	Each      int       `json:"each"`       // how many lines, displays or runs a round has
	PerSecond float64   `json:"per_second"` // of those
	Error     string    `json:"error,omitempty"`
}

func (r *Row) add(took time.Duration) { r.Seconds = append(r.Seconds, took.Seconds()) }

// sum returns the row with the numbers that follow from Seconds.
func (r Row) sum() Row {
	if len(r.Seconds) == 0 {
		return r
	}
	r.P50, r.P90, r.P99 = percentile(r.Seconds, 50), percentile(r.Seconds, 90), percentile(r.Seconds, 99)
	if r.PerSecond == 0 && r.P50 > 0 {
		r.PerSecond = float64(r.Each) / r.P50
	}
	return r
}

// percentile returns the smallest value that at least p per cent of the values do not exceed.
func percentile(values []float64, p float64) float64 {
	ordered := slices.Sorted(slices.Values(values))
	return ordered[max(int(math.Ceil(float64(len(ordered))*p/100))-1, 0)]
}

// Table writes rows for people.
func Table(w io.Writer, rows []Row) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tp50 ms\tp90 ms\tp99 ms\ta second\trounds\t")
	for _, r := range rows {
		switch {
		case r.Error != "":
			continue
		case len(r.Seconds) == 0:
			fmt.Fprintf(t, "%s\t-\t-\t-\t-\t0\t\n", r.Name)
		default:
			fmt.Fprintf(t, "%s\t%.2f\t%.2f\t%.2f\t%.*f\t%d\t\n", r.Name, r.P50*1000, r.P90*1000, r.P99*1000, digits(r.PerSecond), r.PerSecond, len(r.Seconds))
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, r := range rows {
		if r.Error != "" {
			if _, err := fmt.Fprintf(w, "%s failed: %s\n", r.Name, r.Error); err != nil {
				return err
			}
		}
	}
	return nil
}

func digits(value float64) int {
	if value < 100 {
		return 1
	}
	return 0
}
