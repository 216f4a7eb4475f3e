package bench

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/client"
)

// How much is done, divided where it has to be quick.
const (
	warm     = 10 // runs that only warm up
	runs     = 500
	rounds   = 30 // of what takes a while
	printed  = 100_000
	flushed  = 10_000
	displays = 10_000
)

func (b *bench) latency(ctx context.Context) ([]Row, error) {
	row := Row{Name: "1+1", Each: 1}
	err := b.within(ctx, func(in *client.Client) error {
		for n := -warm; n < runs/b.divisor; n++ {
			took, err := two(ctx, in, "")
			if err != nil {
				return err
			}
			if n >= 0 {
				row.add(took)
			}
		}
		return nil
	})
	return []Row{row}, err
}

// contexts measures runs in many contexts of one sandbox at once.
func (b *bench) contexts(ctx context.Context) ([]Row, error) {
	var rows []Row
	err := b.within(ctx, func(in *client.Client) error {
		contexts := []string{""}
		for _, n := range []int{1, 4, 16} {
			for len(contexts) < n {
				made, err := in.CreateContext(ctx, api.ContextRequest{})
				if err != nil {
					return err
				}
				contexts = append(contexts, made.ContextID)
			}
			row, err := b.together(ctx, in, contexts)
			if err != nil {
				return err
			}
			rows = append(rows, row)
		}
		return nil
	})
	return rows, err
}

// together has all contexts run cells at once, and then measures it.
func (b *bench) together(ctx context.Context, in *client.Client, contexts []string) (Row, error) {
	row := Row{Name: fmt.Sprintf("1+1, %d contexts at once", len(contexts)), Each: 1}
	if len(contexts) == 1 {
		row.Name = "1+1, 1 context"
	}
	for _, many := range []int{2, max(runs/b.divisor/4, 2)} { // the first only warm up
		row.Seconds = nil
		begun := time.Now()
		var mu sync.Mutex
		if err := each(contexts, func(where string) error {
			for range many {
				took, err := two(ctx, in, where)
				if err != nil {
					return err
				}
				mu.Lock()
				row.add(took)
				mu.Unlock()
			}
			return nil
		}); err != nil {
			return row, err
		}
		row.PerSecond = float64(len(row.Seconds)) / time.Since(begun).Seconds()
	}
	return row, nil
}

// each calls do for all at once, and returns the first error.
func each(all []string, do func(string) error) error {
	failed := make(chan error, len(all))
	for _, one := range all {
		go func() { failed <- do(one) }()
	}
	var first error
	for range all {
		if err := <-failed; first == nil {
			first = err
		}
	}
	return first
}

func (b *bench) lines(ctx context.Context) ([]Row, error) {
	var rows []Row
	err := b.within(ctx, func(in *client.Client) error {
		for _, kind := range []struct {
			name, code string
			n          int
		}{
			{"%d lines", "for i in range(%d): print(i)", printed / b.divisor},
			{"%d flushed lines", "for i in range(%d): print(i, flush=True)", flushed / b.divisor},
		} {
			text := 0
			for i := range kind.n {
				text += len(strconv.Itoa(i)) + 1
			}
			row, err := b.output(ctx, in, Row{Name: fmt.Sprintf(kind.name, kind.n), Each: kind.n},
				fmt.Sprintf(kind.code, kind.n), func(s said) bool { return s.text == text })
			if err != nil {
				return err
			}
			rows = append(rows, row)
		}
		return nil
	})
	return rows, err
}

func (b *bench) displays(ctx context.Context) ([]Row, error) {
	n := displays / b.divisor
	row := Row{Name: fmt.Sprintf("%d displays", n), Each: n}
	err := b.within(ctx, func(in *client.Client) (err error) {
		row, err = b.output(ctx, in, row, fmt.Sprintf("for i in range(%d): display({'text/plain': str(i)}, raw=True)", n),
			func(s said) bool { return s.results == n })
		return err
	})
	return []Row{row}, err
}

// output measures a cell, all of whose output has to arrive.
func (b *bench) output(ctx context.Context, in *client.Client, row Row, code string, complete func(said) bool) (Row, error) {
	for n := -1; n < max(rounds/b.divisor/3, 2); n++ {
		begun := time.Now()
		s, err := cell(ctx, in, code, "")
		took := time.Since(begun)
		if err == nil && !complete(s) {
			err = fmt.Errorf("%s: %d bytes and %d displays arrived", row.Name, s.text, s.results)
		}
		if err != nil {
			return row, err
		}
		if n >= 0 { // the first only warms up
			row.add(took)
		}
	}
	return row, nil
}

// create measures how soon a sandbox is there, and how soon it has said what 1+1 is.
func (b *bench) create(ctx context.Context) ([]Row, error) {
	there, told := Row{Name: "create a sandbox", Each: 1}, Row{Name: "create, first result", Each: 1}
	for n := -1; n < max(rounds/b.divisor, 3); n++ {
		begun := time.Now()
		if err := b.within(ctx, func(in *client.Client) error {
			made := time.Since(begun)
			_, err := two(ctx, in, "")
			if err == nil && n >= 0 {
				there.add(made)
				told.add(time.Since(begun))
			}
			return err
		}); err != nil {
			return []Row{there, told}, err
		}
	}
	return []Row{there, told}, nil
}

func (b *bench) reset(ctx context.Context) ([]Row, error) {
	row := Row{Name: "reset", Each: 1}
	err := b.within(ctx, func(in *client.Client) error {
		for n := -1; n < max(rounds/b.divisor, 3); n++ {
			if _, err := cell(ctx, in, "kept = 1", ""); err != nil {
				return err
			}
			begun := time.Now()
			if _, err := in.Reset(ctx); err != nil {
				return err
			}
			took := time.Since(begun)
			if s, err := cell(ctx, in, "'kept' in globals()", ""); err != nil || s.value != "False" {
				return fmt.Errorf("a variable outlived a reset: %q, %w", s.value, err)
			}
			if n >= 0 {
				row.add(took)
			}
		}
		return nil
	})
	return []Row{row}, err
}
