package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/k2sandbox/k2sandbox/trace"
	"github.com/k2sandbox/k2sandbox/trace/otlp"
)

// traces says where traces go: a flag, and the variables of OpenTelemetry, of which the SDK reads those about sampling, limits and resources by itself.
// https://opentelemetry.io/docs/specs/otel/protocol/exporter/
type traces struct{ endpoint string }

const (
	otelVariable    = "OTEL_EXPORTER_OTLP_"
	defaultEndpoint = "http://localhost:4318"
	tracesPath      = "/v1/traces"
)

func (t *traces) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&t.endpoint, "otlp-endpoint", "", "send traces to this collector, by OTLP over HTTP, such as "+defaultEndpoint+
		"; headers, sampling and more are as OpenTelemetry's variables OTEL_* say (default $OTEL_EXPORTER_OTLP_ENDPOINT, and else none)")
}

// lastSpans is how long what waits may take to be sent when a program ends.
const lastSpans = 3 * time.Second

// open returns what makes spans, nil where nobody wants any, and what ends it.
func (t *traces) open(log *slog.Logger) (trace.Tracer, func(), error) {
	o, err := t.options()
	if err != nil || o.URL == "" {
		return nil, func() {}, err
	}
	o.Service, o.Version, o.Log = "k2sandbox", version, log
	tracer, err := otlp.Open(o)
	if err != nil {
		return nil, nil, err
	}
	return tracer, func() {
		ctx, cancel := context.WithTimeout(context.Background(), lastSpans)
		defer cancel()
		if err := tracer.Close(ctx); err != nil {
			log.Warn("traces were not sent to their end", "error", err)
		}
	}, nil
}

// options returns where traces go, without a URL where they do not. Of headers no error tells the values.
func (t *traces) options() (o otlp.Options, err error) {
	if o.URL = t.url(); o.URL == "" {
		return o, nil
	}
	fail := func(name string, err error) (otlp.Options, error) { return o, fmt.Errorf("$%s: %w", name, err) }
	if exporter := os.Getenv("OTEL_TRACES_EXPORTER"); exporter != "" && exporter != "otlp" {
		return fail("OTEL_TRACES_EXPORTER", fmt.Errorf("want otlp or none, got %q", exporter))
	}
	if name, value := otelSetting("PROTOCOL"); value != "" && value != "http/protobuf" {
		return fail(name, fmt.Errorf("want http/protobuf, whose port is 4318 most times, got %q", value))
	}
	name, value := otelSetting("COMPRESSION")
	if value != "" && value != "none" && value != "gzip" {
		return fail(name, fmt.Errorf("want none or gzip, got %q", value))
	}
	o.Gzip = value == "gzip"
	if name, value = otelSetting("TIMEOUT"); value != "" {
		ms, err := strconv.Atoi(value)
		if err != nil || ms <= 0 || ms > 600_000 {
			return fail(name, fmt.Errorf("want milliseconds, got %q", value))
		}
		o.Timeout = time.Duration(ms) * time.Millisecond
	}
	name, value = otelSetting("HEADERS")
	if o.Headers, err = otelHeaders(value); err != nil {
		return fail(name, err)
	}
	if o.TLS, err = otelTLS(); err != nil {
		return o, err
	}
	return o, checkSampler()
}

// url returns where traces go; "" is nowhere. A base has the path of traces below it, and the variable for traces alone is taken as it is.
func (t *traces) url() string {
	exporter := os.Getenv("OTEL_TRACES_EXPORTER")
	if exporter == "none" || strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return ""
	}
	base := t.endpoint
	if base == "" {
		if whole := os.Getenv(otelVariable + "TRACES_ENDPOINT"); whole != "" {
			return whole
		}
		base = os.Getenv(otelVariable + "ENDPOINT")
	}
	if base == "" && exporter == "otlp" {
		base = defaultEndpoint
	}
	if base == "" {
		return ""
	}
	return strings.TrimRight(base, "/") + tracesPath
}

// otelSetting returns a variable for traces, or the one for all that OTLP sends, and its name.
func otelSetting(what string) (name, value string) {
	name = otelVariable + "TRACES_" + what
	if value = os.Getenv(name); value == "" {
		name = otelVariable + what
		value = os.Getenv(name)
	}
	return name, value
}

// otelHeaders reads NAME=VALUE,…, in which values are as in URLs.
func otelHeaders(text string) (map[string]string, error) {
	headers := map[string]string{}
	for pair := range strings.SplitSeq(text, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		name, value, ok := strings.Cut(pair, "=")
		plain, err := url.PathUnescape(strings.TrimSpace(value))
		if name = strings.TrimSpace(name); !ok || err != nil || !validHeader(name, plain) {
			return nil, errors.New("want NAME=VALUE, and more of them behind commas")
		}
		headers[name] = plain
	}
	return headers, nil
}

func validHeader(name, value string) bool {
	return name != "" && !strings.ContainsAny(name, " \t:\r\n\x00") && !strings.ContainsAny(value, "\r\n\x00")
}

// otelTLS returns what TLS needs beside the system's; nil where that is nothing.
func otelTLS() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	authorities, path := otelSetting("CERTIFICATE")
	if path != "" {
		text, err := os.ReadFile(path)
		if c.RootCAs = x509.NewCertPool(); err == nil && !c.RootCAs.AppendCertsFromPEM(text) {
			err = errors.New("the file has no certificates")
		}
		if err != nil {
			return nil, fmt.Errorf("$%s: %w", authorities, err)
		}
	}
	name, cert := otelSetting("CLIENT_CERTIFICATE")
	if cert != "" {
		_, key := otelSetting("CLIENT_KEY")
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("$%s: %w", name, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	if path == "" && cert == "" {
		return nil, nil
	}
	return c, nil
}

// samplers are those that the SDK knows, which takes another one for the first of them without a word of which variable is meant.
var samplers = []string{"parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio", "always_on", "always_off", "traceidratio"}

func checkSampler() error {
	name := os.Getenv("OTEL_TRACES_SAMPLER")
	if name != "" && !slices.Contains(samplers, name) {
		return fmt.Errorf("$OTEL_TRACES_SAMPLER: want one of %q, got %q", samplers, name)
	}
	ratio := os.Getenv("OTEL_TRACES_SAMPLER_ARG")
	if n, err := strconv.ParseFloat(ratio, 64); strings.HasSuffix(name, "ratio") && ratio != "" && (err != nil || n < 0 || n > 1) {
		return fmt.Errorf("$OTEL_TRACES_SAMPLER_ARG: want a number from 0 to 1, got %q", ratio)
	}
	return nil
}
