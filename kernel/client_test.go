package kernel_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

// raw is a request as another client makes it.
func raw(ch wire.Channel, id, kind, content string) *wire.Message {
	return &wire.Message{
		Channel: ch, Header: fmt.Appendf(nil, `{"msg_id":%q,"msg_type":%q,"version":"5.3","session":"theirs"}`, id, kind),
		Parent: []byte("{}"), Metadata: []byte("{}"), Content: []byte(content),
	}
}

func execute(id, code string) *wire.Message {
	content, _ := json.Marshal(map[string]any{"code": code, "allow_stdin": true})
	return raw(wire.Shell, id, "execute_request", string(content))
}

// kinds tells of messages what they are, to the first that is one of the wanted.
func kinds(t *testing.T, from <-chan wire.Message, last string) (seen []string) {
	t.Helper()
	for m := range from {
		if m.ParentID() == "" { // what the kernel says of its start
			continue
		}
		kind := m.Type()
		if kind == "status" {
			kind = m.Get("execution_state").String()
		}
		seen = append(seen, kind)
		if kind == last {
			return seen
		}
	}
	return seen
}

func TestClientsOfOneKernel(t *testing.T) {
	t.Parallel()
	k := start(t, kernel.Options{})
	heard, own := make(chan wire.Message, 1000), make(chan wire.Message, 1000)
	stop := k.Hear(func(m wire.Message) { heard <- m })
	c, err := k.Join(t.Context(), func(m wire.Message) { own <- m })
	if err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	messages, err := c.Follow(t.Context(), "1", sent)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Follow(t.Context(), "1", nil); err == nil {
		t.Error("a msg_id is followed twice")
	}
	if err := c.Send(t.Context(), execute("1", "print('a'); x = input('b'); x")); err != nil {
		t.Fatal(err)
	}
	sent <- nil
	if m := <-own; m.Channel != wire.Stdin || m.Get("prompt").String() != "b" {
		t.Errorf("was asked %s", m.Content)
	}
	if got := kinds(t, heard, "stream"); fmt.Sprint(got) != "[busy execute_input stream]" { // all came before the question
		t.Errorf("heard %v", got)
	}
	later := make(chan outcome)
	go func() { later <- ask(t.Context(), k, "x", nil) }() // after it
	if err := c.Send(t.Context(), raw(wire.Stdin, "2", "input_reply", `{"value":"c"}`)); err != nil {
		t.Fatal(err)
	}
	seen, replied, idle := 0, false, false
	for m, err := range messages(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		seen++
		replied = replied || m.Type() == "execute_reply"
		idle = idle || m.Get("execution_state").String() == "idle"
		if replied && idle {
			break
		}
	}
	if seen != 7 { // busy, input, stream, question, result, reply, idle
		t.Errorf("followed %d messages", seen)
	}
	if m := <-own; m.Type() != "execute_reply" {
		t.Errorf("was told %s", m.Type())
	}
	if o := <-later; o.result != "'c'" {
		t.Errorf("%+v", o)
	}
	if got := kinds(t, heard, "idle"); fmt.Sprint(got) != "[execute_result idle]" {
		t.Errorf("heard %v", got)
	}
	if got := kinds(t, heard, "idle"); fmt.Sprint(got) != "[busy execute_input execute_result idle]" { // of the engine's cell
		t.Errorf("heard %v", got)
	}
	for range k.Ask(t.Context(), wire.Request{Channel: wire.Control, ID: wire.NewID(), Type: "kernel_info_request"}) {
		break // busy
	}
	if err := c.Send(t.Context(), raw(wire.Shell, "3", "no_such_request", `{}`)); err != nil {
		t.Fatal(err)
	}
	if got := kinds(t, heard, "idle"); fmt.Sprint(got) != "[busy idle]" { // of that alone
		t.Errorf("heard %v", got)
	}
	if err := c.Send(t.Context(), raw(wire.IOPub, "4", "status", `{}`)); err == nil {
		t.Error("a client can speak on iopub")
	}

	messages, err = c.Follow(t.Context(), "5", sent)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Send(t.Context(), execute("5", "import os; os._exit(3)")); err != nil {
		t.Fatal(err)
	}
	sent <- nil
	var d *wire.Death
	for _, err := range messages(t.Context()) {
		if err != nil && (!errors.As(err, &d) || d.Code != 3) {
			t.Errorf("ended with %v", err)
		}
	}
	<-c.Done()
	if _, err := k.Join(t.Context(), func(wire.Message) {}); !errors.As(err, &d) {
		t.Errorf("joined a dead kernel: %v", err)
	}
	if err := k.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop()
	if c, err = k.Join(t.Context(), func(m wire.Message) { own <- m }); err != nil {
		t.Fatal(err)
	}
	if err := c.Send(t.Context(), raw(wire.Control, "6", "kernel_info_request", "{}")); err != nil {
		t.Fatal(err)
	}
	if m := <-own; m.ParentID() != "6" {
		t.Errorf("was told %s", m.Type())
	}
	unsent := make(chan error, 1)
	if messages, err = c.Follow(t.Context(), "7", unsent); err != nil {
		t.Fatal(err)
	}
	c.Close()
	<-c.Done()
	unsent <- errors.New("not sent")
	for _, err := range messages(t.Context()) {
		if err == nil || err.Error() != "not sent" {
			t.Errorf("a request that was not sent ended with %v", err)
		}
	}
	if err := c.Flush(t.Context()); err != nil {
		t.Errorf("flushed behind a client that has ended: %v", err)
	}
	two(t, k)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := k.Join(ctx, func(wire.Message) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("joined without time: %v", err)
	}
}
