package otlp

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
)

const (
	maxPause  = time.Minute
	maxAnswer = 64 << 10    // bytes of an answer that are read
	quietTime = time.Minute // between two lines of the log
)

// sender sends spans, a batch at a time: the SDK calls it from one goroutine, and gives it 30 seconds (OTEL_BSP_EXPORT_TIMEOUT).
type sender struct {
	o      Options
	client *http.Client
	life   context.Context
	end    context.CancelFunc

	mu   sync.Mutex
	lost int       // spans, since the last line of the log
	told time.Time // when that was
}

func newSender(o Options) *sender {
	s := &sender{o: o, client: &http.Client{
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: o.TLS, MaxIdleConns: 1, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the headers may have a key
		Timeout:       o.Timeout,
	}}
	s.life, s.end = context.WithCancel(context.Background())
	return s
}

// ExportSpans implements the SDK's SpanExporter. What fails is told here.
func (s *sender) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	body := encode(spans)
	if s.o.Gzip {
		body = packed(body)
	}
	for pause := s.o.Pause; ; pause *= 2 {
		wait, err := s.post(ctx, body)
		if err == nil {
			return nil
		}
		if wait < 0 {
			s.complain(len(spans), err)
			return nil
		}
		select {
		case <-time.After(max(wait, min(pause, maxPause))):
		case <-ctx.Done():
			s.complain(len(spans), err)
			return nil
		}
	}
}

// Shutdown implements the SDK's SpanExporter.
func (s *sender) Shutdown(context.Context) error {
	s.client.CloseIdleConnections()
	return nil
}

// post sends a batch. Where there is an error it tells how long to wait at least before it is sent again; less than nothing: it is not to be.
func (s *sender) post(ctx context.Context, body []byte) (time.Duration, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.o.URL, bytes.NewReader(body))
	if err != nil {
		return -1, err
	}
	for name, value := range s.o.Headers {
		req.Header.Set(name, value)
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("User-Agent", "k2sandbox/"+s.o.Version)
	if s.o.Gzip {
		req.Header.Set("Content-Encoding", "gzip")
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer) // so that the connection is used again
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		return time.Duration(min(max(seconds, 0), 60)) * time.Second, fmt.Errorf("the collector answers with status %d", resp.StatusCode)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return -1, fmt.Errorf("the collector answers with status %d", resp.StatusCode)
	}
	return 0, nil
}

// complain logs, now and then, that spans are lost.
func (s *sender) complain(spans int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost += spans
	if now := time.Now(); now.Sub(s.told) > quietTime {
		s.o.Log.Warn("cannot send traces", "lost_spans", s.lost, "error", err)
		s.lost, s.told = 0, now
	}
}

func packed(body []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(body) // into memory, which does not fail
	_ = z.Close()
	return b.Bytes()
}

var _ sdk.SpanExporter = (*sender)(nil)
