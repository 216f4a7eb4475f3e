package executor_test

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"testing"

	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

// fake is a kernel played by the test: script is called with each execute_request.
type fake struct {
	script func(k *fake, req wire.Request)
	info   wire.Info

	mu         sync.Mutex
	asks       map[string]chan turnOf
	death      *wire.Death
	interrupts chan struct{}
	inputs     chan string
	restarts   int
	stray      chan wire.Message
	noRestart  error
	deaf       bool // control stays unanswered
	variables  string
	flushed    chan struct{} // closed once the kernel has come to what others have sent
}

type turnOf struct {
	m   wire.Message
	err error
}

func newFake(script func(k *fake, req wire.Request)) *fake {
	return &fake{
		script: script, asks: map[string]chan turnOf{}, stray: make(chan wire.Message, 100),
		interrupts: make(chan struct{}, 100), inputs: make(chan string, 100), flushed: make(chan struct{}),
	}
}

func message(ch wire.Channel, parent, kind, content string) wire.Message {
	m := wire.Message{
		Channel: ch, Content: []byte(content), Metadata: []byte("{}"),
		Header: fmt.Appendf(nil, `{"msg_id":%q,"msg_type":%q}`, wire.NewID(), kind),
		Parent: []byte("{}"),
	}
	if parent != "" {
		m.Parent = fmt.Appendf(nil, `{"msg_id":%q}`, parent)
	}
	return m
}

// say sends a message with the parent.
func (k *fake) say(ch wire.Channel, parent, kind, content string) {
	k.mu.Lock()
	inbox := k.asks[parent]
	k.mu.Unlock()
	if inbox != nil {
		inbox <- turnOf{m: message(ch, parent, kind, content)}
	} else {
		k.stray <- message(ch, parent, kind, content)
	}
}

func (k *fake) pub(parent, kind, content string) { k.say(wire.IOPub, parent, kind, content) }
func (k *fake) busy(parent string)               { k.pub(parent, "status", `{"execution_state":"busy"}`) }
func (k *fake) idle(parent string)               { k.pub(parent, "status", `{"execution_state":"idle"}`) }
func (k *fake) reply(parent, content string)     { k.say(wire.Shell, parent, "execute_reply", content) }
func (k *fake) print(parent, text string) {
	k.pub(parent, "stream", fmt.Sprintf(`{"name":"stdout","text":%q}`, text))
}

func (k *fake) begin(parent string) {
	k.busy(parent)
	k.pub(parent, "execute_input", `{"execution_count":7}`)
}

func (k *fake) ok(parent string) {
	k.reply(parent, `{"status":"ok","execution_count":7}`)
	k.idle(parent)
}

func (k *fake) die(d *wire.Death) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.death = d
	for _, inbox := range k.asks {
		inbox <- turnOf{err: d}
	}
}

func (k *fake) Ask(ctx context.Context, req wire.Request) iter.Seq2[wire.Message, error] {
	return func(yield func(wire.Message, error) bool) {
		inbox := make(chan turnOf, 10_000)
		k.mu.Lock()
		if death := k.death; death != nil {
			k.mu.Unlock()
			yield(wire.Message{}, death)
			return
		}
		k.asks[req.ID] = inbox
		k.mu.Unlock()
		defer func() {
			k.mu.Lock()
			defer k.mu.Unlock()
			delete(k.asks, req.ID)
		}()
		switch {
		case req.Type == "execute_request":
			go k.script(k, req)
		case req.Type == "kernel_info_request" && !k.deaf:
			go k.idle(req.ID)
		case req.Type == "k2_variables_request":
			go k.say(wire.Shell, req.ID, "k2_variables_reply", k.variables)
		case req.Type == "complete_request":
			go k.say(wire.Shell, req.ID, "complete_reply", `{"status":"ok","matches":["print"],"cursor_start":0,"cursor_end":2,"metadata":{}}`)
		}
		for {
			select {
			case t := <-inbox:
				if !yield(t.m, t.err) || t.err != nil {
					return
				}
			case <-ctx.Done():
				for len(inbox) > 0 { // what came before the end is told
					if t := <-inbox; !yield(t.m, t.err) || t.err != nil {
						return
					}
				}
				yield(wire.Message{}, ctx.Err())
				return
			}
		}
	}
}

func (k *fake) Tell(_ context.Context, req wire.Request) error {
	k.inputs <- string(req.Content)
	return nil
}

func (k *fake) Stray(ctx context.Context) iter.Seq2[wire.Message, error] {
	return func(yield func(wire.Message, error) bool) {
		for {
			select {
			case m := <-k.stray:
				if !yield(m, nil) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

func (k *fake) Interrupt(context.Context) error {
	k.interrupts <- struct{}{}
	return nil
}

func (k *fake) Restart(context.Context) error {
	if k.noRestart != nil {
		return k.noRestart
	}
	k.die(&wire.Death{Signal: "SIGKILL", Code: -1, Requested: true})
	k.mu.Lock()
	defer k.mu.Unlock()
	k.death = nil
	k.restarts++
	return nil
}

func (k *fake) Err() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.death != nil {
		return k.death
	}
	return nil
}

func (k *fake) Info() wire.Info { return k.info }

// start returns a context on the fake, closed at the test's end. Tests run in a
// bubble of synctest: its patience costs no time, and ends only where nothing else moves.
func start(t *testing.T, k *fake) *executor.Context {
	return startWith(t, k, executor.Options{})
}

func startWith(t *testing.T, k *fake, o executor.Options) *executor.Context {
	c := executor.New("c", k, o)
	t.Cleanup(func() { c.Close(executor.SandboxKilled) })
	return c
}

// submit submits the cell or fails.
func submit(t *testing.T, c *executor.Context, cell executor.Cell) *executor.Execution {
	t.Helper()
	e, err := c.Submit(cell)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// all returns the events of a run, to its end.
func all(t *testing.T, e *executor.Execution) []executor.Event {
	t.Helper()
	var events []executor.Event
	for event, err := range e.Events(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, event)
	}
	for i, event := range events {
		if event.Seq != int64(i+1) {
			t.Fatalf("event %d has seq %d", i+1, event.Seq)
		}
	}
	return events
}

// types tells the events' types in one line.
func types(events []executor.Event) string {
	s := ""
	for _, e := range events {
		s += " " + string(e.Type)
		if e.Type == executor.End {
			s += ":" + string(e.Status)
		}
	}
	return s[1:]
}

// expect checks the types of a run's events and returns the last.
func expect(t *testing.T, e *executor.Execution, want string) executor.Event {
	t.Helper()
	events := all(t, e)
	if got := types(events); got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	return events[len(events)-1]
}
