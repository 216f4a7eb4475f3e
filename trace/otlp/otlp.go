// Package otlp sends spans to a collector, by OTLP over HTTP: https://opentelemetry.io/docs/specs/otlp/#otlphttp. Sampling, the
// queue and the limits are those of OpenTelemetry's SDK, and so are its environment variables OTEL_TRACES_SAMPLER*, OTEL_BSP_* and OTEL_SPAN_*.
package otlp

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	api "go.opentelemetry.io/otel/trace"

	"github.com/k2sandbox/k2sandbox/trace"
)

// Options say where spans go. URL is required.
type Options struct {
	URL     string            // of the collector's traces: http or https
	Headers map[string]string // of each request, such as a key
	Gzip    bool
	Timeout time.Duration // of one request; 0 is 10 s
	Pause   time.Duration // before what could not be sent is sent again, doubled each time; 0 is 1 s
	TLS     *tls.Config   // nil: the system's authorities, and no certificate of ours

	Service, Version string // of the program that the spans are of, where OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES tell no other
	Log              *slog.Logger
}

// Tracer is a trace.Tracer that must be closed. Who makes spans never waits for the collector: what does not fit into the queue is left out.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   api.Tracer
	sender   *sender
}

// Open returns a Tracer. It does not wait for the collector, which need not be there. Errors tell which option, or which variable, makes no sense.
func Open(o Options) (*Tracer, error) {
	where, err := url.Parse(o.URL)
	if err != nil || where.Host == "" || where.Scheme != "http" && where.Scheme != "https" {
		return nil, fmt.Errorf("cannot send traces to %.200q: want http:// or https://", o.URL)
	}
	o.Pause = cmp.Or(o.Pause, time.Second)
	o.Timeout, o.Log = cmp.Or(o.Timeout, 10*time.Second), cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	about, err := resource.New(context.Background(),
		resource.WithAttributes(attribute.String("service.name", o.Service), attribute.String("service.version", o.Version)),
		resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("$OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	s := newSender(o)
	provider := sdk.NewTracerProvider(sdk.WithBatcher(s), sdk.WithResource(about))
	return &Tracer{provider, provider.Tracer("github.com/k2sandbox/k2sandbox", api.WithInstrumentationVersion(o.Version)), s}, nil
}

// Close sends what waits, as long as ctx lasts, and ends all that the Tracer runs, also where ctx has ended.
func (t *Tracer) Close(ctx context.Context) error {
	defer context.AfterFunc(ctx, t.sender.end)() // what it sends then ends at once
	err := t.provider.Shutdown(context.WithoutCancel(ctx))
	t.sender.end()
	return errors.Join(err, ctx.Err())
}

var headers = propagation.TraceContext{}

// Request implements trace.Tracer.
func (t *Tracer) Request(h http.Header, name string, attrs ...trace.Attr) trace.Span {
	ctx := headers.Extract(context.Background(), propagation.HeaderCarrier(h))
	ctx, s := t.tracer.Start(ctx, bounded(name), api.WithSpanKind(api.SpanKindServer), api.WithAttributes(attributes(attrs)...))
	if !s.IsRecording() {
		return nil
	}
	return &span{t.tracer, ctx, s}
}

// span is a trace.Span.
type span struct {
	tracer api.Tracer
	ctx    context.Context // that has it
	s      api.Span
}

var kinds = map[trace.Kind]api.SpanKind{trace.Internal: api.SpanKindInternal, trace.Server: api.SpanKindServer, trace.Client: api.SpanKindClient}

func (s *span) Start(name string, kind trace.Kind, at time.Time, attrs ...trace.Attr) trace.Span {
	options := []api.SpanStartOption{api.WithSpanKind(kinds[kind]), api.WithAttributes(attributes(attrs)...)}
	if !at.IsZero() {
		options = append(options, api.WithTimestamp(at))
	}
	ctx, child := s.tracer.Start(s.ctx, bounded(name), options...)
	return &span{s.tracer, ctx, child}
}

func (s *span) Rename(name string)           { s.s.SetName(bounded(name)) }
func (s *span) Set(attrs ...trace.Attr)      { s.s.SetAttributes(attributes(attrs)...) }
func (s *span) Inject(h http.Header)         { headers.Inject(s.ctx, propagation.HeaderCarrier(h)) }
func (s *span) Event(n string, at time.Time) { s.s.AddEvent(bounded(n), api.WithTimestamp(at)) }

func (s *span) Fail(kind string) {
	s.s.SetAttributes(attribute.String("error.type", bounded(kind)))
	s.s.SetStatus(codes.Error, "")
}

func (s *span) End(at time.Time) {
	if at.IsZero() {
		s.s.End()
	} else {
		s.s.End(api.WithTimestamp(at))
	}
}

// longest is how many bytes a text has in a span.
const longest = 256

// bounded returns what of a text is in a span. One that is no UTF-8 would cost all spans that are sent with it.
func bounded(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), longest)], "\ufffd")
}

func attributes(attrs []trace.Attr) []attribute.KeyValue {
	all := make([]attribute.KeyValue, 0, len(attrs))
	for _, a := range attrs {
		switch v := a.Value.(type) {
		case string:
			all = append(all, attribute.String(a.Key, bounded(v)))
		case int64:
			all = append(all, attribute.Int64(a.Key, v))
		case float64:
			all = append(all, attribute.Float64(a.Key, v))
		case bool:
			all = append(all, attribute.Bool(a.Key, v))
		}
	}
	return all
}
