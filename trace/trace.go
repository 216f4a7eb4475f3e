// Package trace tells of work as spans, in the terms of OpenTelemetry, to whoever sends them somewhere. Package otlp does.
// Without a Tracer there are no spans, and all that this package costs is a look into a context.
package trace

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// Tracer begins spans. It is safe for concurrent use.
type Tracer interface {
	// Request begins the span of a request that has come in, in the trace that its headers name (W3C Trace Context,
	// section 3), if any, or in one of its own. nil: the request is not sampled.
	Request(h http.Header, name string, attrs ...Attr) Span
}

// Span is a piece of work. It is safe for concurrent use, and does nothing any more once it has ended. All that it is told
// may come from a client or a sandbox: it keeps a bounded part of it.
type Span interface {
	// Start begins a span below this one; the zero time is now.
	Start(name string, kind Kind, at time.Time, attrs ...Attr) Span

	Rename(name string)
	Set(attrs ...Attr)
	Event(name string, at time.Time)

	// Fail says that the work has failed, with the attribute error.type: a word of which there are few.
	Fail(kind string)

	// End ends the span; the zero time is now.
	End(at time.Time)

	// Inject puts the headers of W3C Trace Context into a request that is part of the work.
	Inject(h http.Header)
}

// Kind says which side of a request a span is.
type Kind int

// The kinds of spans.
const (
	Internal Kind = iota
	Server
	Client
)

// Attr is an attribute of a span.
type Attr struct {
	Key   string
	Value any // string, int64, float64 or bool
}

// String returns an attribute.
func String[T ~string](key string, value T) Attr { return Attr{key, string(value)} }

// Int returns an attribute.
func Int(key string, value int) Attr { return Attr{key, int64(value)} }

type key struct{}

// With returns a context that has the span.
func With(ctx context.Context, s Span) context.Context { return context.WithValue(ctx, key{}, s) }

// From returns the span of a context; nil: it has none.
func From(ctx context.Context) Span {
	s, _ := ctx.Value(key{}).(Span)
	return s
}

// Step begins a span below that of the context, and returns the context with it. Where there is none it returns one that does nothing.
func Step(ctx context.Context, name string, attrs ...Attr) (context.Context, Span) {
	parent := From(ctx)
	if parent == nil {
		return ctx, none{}
	}
	s := parent.Start(name, Internal, time.Time{}, attrs...)
	return With(ctx, s), s
}

// Do does something as a step.
func Do(ctx context.Context, name string, do func(context.Context) error) error {
	ctx, s := Step(ctx, name)
	err := do(ctx)
	Done(s, err)
	return err
}

// Done ends a span now, as failed where there is an error. Of that the span tells no more than the kind: its text may have anything.
func Done(s Span, err error) {
	switch {
	case err == nil:
	case errors.Is(err, context.Canceled):
		s.Fail("cancelled")
	case errors.Is(err, context.DeadlineExceeded):
		s.Fail("deadline_exceeded")
	default:
		s.Fail("_OTHER") // as the semantic conventions call it
	}
	s.End(time.Time{})
}

// none is a span that nobody records.
type none struct{}

func (none) Start(string, Kind, time.Time, ...Attr) Span { return none{} }
func (none) Rename(string)                               {}
func (none) Set(...Attr)                                 {}
func (none) Event(string, time.Time)                     {}
func (none) Fail(string)                                 {}
func (none) End(time.Time)                               {}
func (none) Inject(http.Header)                          {}
