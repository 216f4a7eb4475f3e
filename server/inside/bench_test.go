package inside_test

import (
	"context"
	"fmt"
	"io"
	"iter"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/kernel/wire"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/inside"
)

// instant is a kernel that answers 1+1 at once, so that a benchmark sees nothing but us.
type instant struct{}

func (instant) Ask(_ context.Context, req wire.Request) iter.Seq2[wire.Message, error] {
	return func(yield func(wire.Message, error) bool) {
		for _, m := range [][3]string{
			{"iopub", "status", `{"execution_state":"busy"}`},
			{"iopub", "execute_input", `{"execution_count":1,"code":"1+1"}`},
			{"iopub", "execute_result", `{"execution_count":1,"data":{"text/plain":"2"},"metadata":{}}`},
			{"shell", "execute_reply", `{"status":"ok","execution_count":1,"payload":[]}`},
			{"iopub", "status", `{"execution_state":"idle"}`},
		} {
			message := wire.Message{
				Channel: wire.Channel(m[0]), Header: fmt.Appendf(nil, `{"msg_id":"x","msg_type":%q}`, m[1]),
				Parent: fmt.Appendf(nil, `{"msg_id":%q}`, req.ID), Content: []byte(m[2]),
			}
			if !yield(message, nil) {
				return
			}
		}
	}
}

func (instant) Tell(context.Context, wire.Request) error { return nil }
func (instant) Stray(ctx context.Context) iter.Seq2[wire.Message, error] {
	return func(func(wire.Message, error) bool) { <-ctx.Done() }
}
func (instant) Interrupt(context.Context) error { return nil }
func (instant) Restart(context.Context) error   { return nil }
func (instant) Err() error                      { return nil }
func (instant) Info() wire.Info                 { return wire.Info{} }

func BenchmarkExecutor(b *testing.B) {
	c := executor.New("default", instant{}, executor.Options{})
	defer c.Close(executor.Aborted)
	for b.Loop() {
		e, err := c.Submit(executor.Cell{Code: "1+1"})
		if err != nil {
			b.Fatal(err)
		}
		for range e.Lines(b.Context(), 0) {
		}
	}
}

func BenchmarkHTTP(b *testing.B) {
	c := executor.New("default", instant{}, executor.Options{})
	defer c.Close(executor.Aborted)
	srv := httptest.NewServer(inside.Serve(&replayed{c: c, runs: map[string]*executor.Execution{}}, server.Options{}))
	defer srv.Close()
	for b.Loop() {
		resp, err := srv.Client().Post(srv.URL+"/v1/code", "application/json", strings.NewReader(`{"code":"1+1"}`))
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}

// BenchmarkHealth is what HTTP takes without a run.
func BenchmarkHealth(b *testing.B) {
	srv := httptest.NewServer(inside.Serve(&replayed{}, server.Options{}))
	defer srv.Close()
	for b.Loop() {
		resp, err := srv.Client().Get(srv.URL + "/healthz")
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}
