package executor_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

func TestCommsAreEventsWhereAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFake(func(k *fake, req wire.Request) {
			k.begin(req.ID)
			k.pub(req.ID, "comm_open", `{"comm_id":"c1","target_name":"jupyter.widget","data":{"state":{"n":1.0}}}`)
			k.print(req.ID, "a")
			k.pub(req.ID, "comm_close", `{"comm_id":"c1"}`)
			k.ok(req.ID)
		})
		c := start(t, k)
		expect(t, submit(t, c, executor.Cell{}), "start stdout end:ok")
		e := submit(t, c, executor.Cell{Comms: true})
		expect(t, e, "start comm stdout comm end:ok")
		events := all(t, e)
		opened, closed := events[1].Comm, events[3].Comm
		if opened.Type != "comm_open" || opened.ID != "c1" || opened.Target != "jupyter.widget" || string(opened.Data) != `{"state":{"n":1.0}}` {
			t.Errorf("got %+v", opened)
		}
		if closed.Type != "comm_close" || string(closed.Data) != "{}" {
			t.Errorf("got %+v", closed)
		}
		if err := c.SendComm(t.Context(), "c1", []byte(`{"method":"update"}`)); err != nil {
			t.Fatal(err)
		}
		if sent := <-k.inputs; sent != `{"comm_id":"c1","data":{"method":"update"}}` {
			t.Errorf("sent %s", sent)
		}
	})
}

func TestMomentsAreTheKernelsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := func(second int) string { return fmt.Sprintf("2026-01-02T03:04:%02d.5Z", second) }
		dated := func(k *fake, ch wire.Channel, parent, kind, content, date string) {
			m := message(ch, parent, kind, content)
			m.Header = fmt.Appendf(nil, `{"msg_id":%q,"msg_type":%q,"date":%q}`, wire.NewID(), kind, date)
			k.mu.Lock()
			inbox := k.asks[parent]
			k.mu.Unlock()
			inbox <- turnOf{m: m}
		}
		k := newFake(func(k *fake, req wire.Request) {
			dated(k, wire.IOPub, req.ID, "status", `{"execution_state":"busy"}`, at(1))
			dated(k, wire.IOPub, req.ID, "execute_input", `{"execution_count":7}`, "no date")
			dated(k, wire.Shell, req.ID, "execute_reply", `{"status":"ok"}`, at(3))
			dated(k, wire.IOPub, req.ID, "status", `{"execution_state":"idle"}`, at(4))
		})
		before := time.Now()
		e := submit(t, start(t, k), executor.Cell{})
		expect(t, e, "start end:ok")
		m := e.Moments()
		for got, want := range map[time.Time]string{m.Busy: at(1), m.Reply: at(3), m.Idle: at(4)} {
			if got.Format(time.RFC3339Nano) != want {
				t.Errorf("got %v, want %s", got, want)
			}
		}
		if m.Input.Before(before.Truncate(time.Millisecond)) {
			t.Errorf("a message without a date was made at %v", m.Input)
		}
	})
}
