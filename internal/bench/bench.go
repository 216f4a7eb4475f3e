// Package bench measures a server of sandboxes over HTTP, as its clients see it.
// Nothing is asserted about time; an answer that is not the right one is an error.
package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/client"
)

// Options say what is measured. Only Client is needed.
type Options struct {
	Client *client.Client // of a server of sandboxes
	Only   []string       // names of Parts; none: all
	Quick  bool           // a tenth of everything
	Begin  func(part string)
}

// bench is a server that is measured.
type bench struct {
	*client.Client
	divisor int
}

// part is a kind of work. It returns the rows that it has also where it fails.
type part struct {
	name    string
	measure func(*bench, context.Context) ([]Row, error)
}

var parts = []part{
	{"latency", (*bench).latency}, {"contexts", (*bench).contexts}, {"lines", (*bench).lines},
	{"displays", (*bench).displays}, {"create", (*bench).create}, {"reset", (*bench).reset},
}

// Parts returns the names of what can be measured.
func Parts() []string {
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	return names
}

// Check refuses names that are not those of Parts.
func (o Options) Check() error {
	for _, name := range o.Only {
		if !slices.Contains(Parts(), name) {
			return fmt.Errorf("there is no part %q: want some of %s", name, strings.Join(Parts(), ", "))
		}
	}
	return nil
}

// Run measures part after part. One that fails has a row that says why, and the
// others go on; the error is that of ctx, or of Options. Sandboxes that it makes are gone when it returns.
func Run(ctx context.Context, o Options) ([]Row, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	b := &bench{Client: o.Client, divisor: 1}
	if o.Quick {
		b.divisor = 10
	}
	var all []Row
	for _, p := range parts {
		if len(o.Only) > 0 && !slices.Contains(o.Only, p.name) {
			continue
		}
		if o.Begin != nil {
			o.Begin(p.name)
		}
		rows, err := p.measure(b, ctx)
		for _, row := range rows {
			row.Part = p.name
			all = append(all, row.sum())
		}
		if ctx.Err() != nil {
			return all, ctx.Err()
		}
		if err != nil {
			all = append(all, Row{Part: p.name, Name: p.name, Error: err.Error()})
		}
	}
	return all, nil
}

// ending is how long the end of a sandbox may take.
const ending = 30 * time.Second

// within calls do with a sandbox of its own, which is gone afterwards.
func (b *bench) within(ctx context.Context, do func(in *client.Client) error) (err error) {
	box, err := b.CreateSandbox(ctx, api.SandboxRequest{})
	if err != nil {
		return err
	}
	defer func() {
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), ending)
		defer cancel()
		err = errors.Join(err, b.KillSandbox(bounded, box.SandboxID))
	}()
	return do(b.In(box.SandboxID))
}
