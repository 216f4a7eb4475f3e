package executor

import (
	"encoding/json"

	"github.com/tidwall/gjson"

	"github.com/k2sandbox/k2sandbox/kernel/wire"
	"github.com/k2sandbox/k2sandbox/mime"
)

// output turns an output message of iopub into its event; false for messages that
// are no output (status, comms, debugger) or that break the protocol.
// https://jupyter-client.readthedocs.io/en/stable/messaging.html#messages-on-the-iopub-pub-sub-channel
func output(m *wire.Message) (Event, bool) {
	switch m.Type() {
	case "stream":
		return stream(m)
	case "execute_result":
		return display(m, Result), true
	case "display_data":
		return display(m, Result), true
	case "update_display_data":
		e := display(m, Update)
		return e, e.DisplayID != ""
	case "clear_output":
		return Event{Type: Clear, Wait: m.Get("wait").Bool()}, true
	case "error":
		return failure(m), true
	}
	return Event{}, false
}

func stream(m *wire.Message) (Event, bool) {
	var name string
	var text []byte
	for member, v := range mime.New(m.Content).All() {
		switch member {
		case "name":
			name = v.Text()
		case "text":
			text = v.JSON()
		}
	}
	if name != string(Stdout) && name != string(Stderr) || len(text) == 0 || text[0] != '"' {
		return Event{}, false
	}
	return Event{Type: Type(name), text: text}, true
}

func display(m *wire.Message, t Type) Event {
	e := Event{Type: t, IsMain: m.Type() == "execute_result"}
	var transient mime.Value
	for name, v := range mime.New(m.Content).All() {
		switch name {
		case "data":
			e.Data = mimes(v)
		case "metadata":
			e.Metadata = mimes(v)
		case "transient":
			transient = v
		}
	}
	if id := gjson.GetBytes(transient.JSON(), "display_id"); id.Type == gjson.String {
		e.DisplayID = id.Str
	}
	return e
}

func bundle(m *wire.Message, name string) mime.Bundle {
	v, _ := mime.New(m.Content).Get(name)
	return mimes(v)
}

// mimes returns the bundle that the value is; the zero Bundle where it is none.
func mimes(v mime.Value) mime.Bundle {
	if raw := v.JSON(); len(raw) > 0 && raw[0] == '{' {
		return mime.New(raw)
	}
	return mime.Bundle{}
}

// part returns the raw JSON of a member of the content: the message's own bytes, as they
// may be many. A bundle finds the end of a string by its quotes, gjson byte by byte.
func part(m *wire.Message, name string) []byte {
	v, _ := mime.New(m.Content).Get(name)
	return v.JSON()
}

// failure makes an Error event of an iopub error or of an execute_reply with status error.
func failure(m *wire.Message) Event {
	e := Event{Type: Error, Name: m.Get("ename").String(), Value: m.Get("evalue").String(), Traceback: []string{}}
	for _, line := range m.Get("traceback").Array() {
		e.Traceback = append(e.Traceback, line.String())
	}
	return e
}

// pages returns the pager texts of an execute_reply (what obj? shows) as results.
func pages(reply *wire.Message) []Event {
	var events []Event
	for _, p := range reply.Get("payload").Array() {
		if data := p.Get("data"); p.Get("source").String() == "page" && data.IsObject() {
			events = append(events, Event{Type: Result, Data: mime.New([]byte(data.Raw))})
		}
	}
	return events
}

// exits reports whether the reply says that the kernel's process will end by itself (exit() in a cell).
func exits(reply *wire.Message) bool {
	for _, p := range reply.Get("payload").Array() {
		if p.Get("source").String() == "ask_exit" && !p.Get("keepkernel").Bool() {
			return true
		}
	}
	return false
}

// count returns the message's execution_count; nil where it has none.
func count(m *wire.Message) *int {
	v := m.Get("execution_count")
	if v.Type != gjson.Number {
		return nil
	}
	n := int(v.Int())
	return &n
}

// request builds the execute_request of a cell, whose msg_id is the execution's id.
func request(id string, c Cell) wire.Request {
	content := object{[]byte{'{'}}
	content.string("code", c.Code)
	content.bool("silent", c.Silent)
	content.bool("store_history", !c.NoHistory && !c.Silent)
	content.raw("user_expressions", []byte("{}"))
	content.bool("allow_stdin", c.AllowStdin)
	content.bool("stop_on_error", false) // one run at a time: there is nothing of ours to abort
	req := wire.Request{Channel: wire.Shell, ID: id, Type: "execute_request", Content: append(content.b, '}')}
	if c.Cwd != "" || len(c.Envs) > 0 || c.Display != "" {
		options := map[string]any{}
		if c.Cwd != "" {
			options["cwd"] = c.Cwd
		}
		if len(c.Envs) > 0 {
			options["envs"] = c.Envs
		}
		if c.Display != "" {
			options["display"] = c.Display
		}
		req.Metadata, _ = json.Marshal(map[string]any{"k2": options}) // strings only
	}
	return req
}
