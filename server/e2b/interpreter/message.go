package interpreter

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/mime"
)

// errKilled says that a run ended because its sandbox did.
var errKilled = errors.New("the sandbox was killed")

// translation turns the lines of one run into messages.
type translation struct {
	id      string   // of the run
	timeout float64  // seconds
	failure *failure // what the code raised, kept for the end, which may know better
	object           // what is written of the messages of a line
}

// failure is what a message of the type error tells.
type failure struct{ name, value, traceback string }

// take returns the messages that stand for a line, in lines of their own; there may be none. They
// are good until the next call.
func (t *translation) take(line executor.Line) ([]byte, error) {
	t.b = t.b[:0]
	members := mime.New(line.JSON)
	switch line.Type {
	case executor.Start:
		if n, ok := members.Get("execution_count"); ok && string(n.JSON()) != "null" {
			t.open("number_of_executions").raw("execution_count", n.JSON()).close()
		}
	case executor.Stdout, executor.Stderr:
		t.text(string(line.Type), member(members, "text"), members)
	case executor.Result, executor.Update:
		t.result(members)
	case executor.Error:
		return nil, t.keep(line)
	case executor.Truncated:
		words := fmt.Sprintf("\n[%s bytes of %s were left out here]\n", member(members, "bytes"), gjson.GetBytes(line.JSON, "stream"))
		t.text(gjson.GetBytes(line.JSON, "stream").String(), quote(words), members)
	case executor.Input:
		t.open("input_request").string("execution_id", t.id).raw("prompt", member(members, "prompt")).raw("password", member(members, "password")).close()
	case executor.End:
		return t.end(line)
	}
	return t.b, nil
}

func (t *translation) text(stream string, quoted []byte, members mime.Bundle) {
	t.open(stream).raw("text", quoted).raw("timestamp", member(members, "time")).close()
}

// fields are the names of MIME types in a result; others are in its extra.
var fields = map[string]string{
	"text/plain":             "text",
	"text/html":              "html",
	"text/markdown":          "markdown",
	"image/svg+xml":          "svg",
	"image/png":              "png",
	"image/jpeg":             "jpeg",
	"application/pdf":        "pdf",
	"text/latex":             "latex",
	"application/json":       "json",
	"application/javascript": "javascript",
	"e2b/data":               "data",
	"e2b/chart":              "chart",
}

func (t *translation) result(members mime.Bundle) {
	data := mime.New(member(members, "data"))
	extra := object{b: []byte{'{'}}
	t.open("result")
	for _, typ := range data.Types() {
		value, _ := data.Get(typ)
		field := fields[typ]
		switch {
		case strings.HasPrefix(typ, "application/vnd.k2."): // told by data and chart
		case field == "text":
			t.raw(field, unquoted(value))
		case field != "":
			t.raw(field, value.JSON())
		default:
			extra.raw(typ, value.JSON())
		}
	}
	main := member(members, "is_main")
	if main == nil {
		main = []byte("false") // an update
	}
	t.raw("extra", append(extra.b, '}')).raw("is_main_result", main).close()
}

// unquoted returns a text as JSON without the quotes of a repr around it.
func unquoted(v mime.Value) []byte {
	text := v.Text()
	for _, mark := range []string{"'", `"`} {
		if len(text) > 1 && strings.HasPrefix(text, mark) && strings.HasSuffix(text, mark) {
			return quote(text[1 : len(text)-1])
		}
	}
	return v.JSON()
}

func (t *translation) keep(line executor.Line) error {
	e, err := executor.DecodeLine(line)
	t.failure = &failure{e.Name, e.Value, strings.Join(e.Traceback, "")}
	return err
}

// end tells what went wrong, if anything did, and that the run has ended.
func (t *translation) end(line executor.Line) ([]byte, error) {
	e, err := executor.DecodeLine(line)
	if err == nil && e.Status == executor.SandboxKilled {
		err = errKilled
	}
	if err != nil {
		return nil, err
	}
	if f := t.verdict(e); f != nil {
		t.open("error").string("name", f.name).string("value", f.value).string("traceback", f.traceback).close()
	}
	if e.StateLost && (e.Status == executor.OK || e.Status == executor.Failed) { // of others the error tells
		t.text("stderr", quote("[the kernel ended: the context goes on with a new one, without its variables]\n"), mime.New(line.JSON))
	}
	if e.OutputLost {
		t.text("stderr", quote("[the kernel dropped some of the output]\n"), mime.New(line.JSON))
	}
	t.open("end_of_execution").close()
	return t.b, nil
}

// verdict returns what a run failed with; nil where it did not.
func (t *translation) verdict(end executor.Event) *failure {
	raised := failure{}
	if t.failure != nil {
		raised = *t.failure
	}
	switch {
	case end.Status == executor.TimedOut && end.StateLost:
		return &failure{"TimeoutError", fmt.Sprintf("the run took longer than its %g s and withstood interrupts: the context goes on with a new kernel, without its variables", t.timeout), raised.traceback}
	case end.Status == executor.TimedOut:
		return &failure{"TimeoutError", fmt.Sprintf("the run took longer than its %g s and was interrupted", t.timeout), raised.traceback}
	case end.Status == executor.KernelDied:
		return &failure{"KernelDied", death(end.Exit) + ": the context goes on with a new kernel, without its variables", stderr(end.Exit)}
	case end.Status == executor.Aborted && end.StateLost:
		return &failure{"ContextRestarting", "Context was restarted", raised.traceback}
	case end.Status == executor.Aborted:
		return &failure{"ExecutionAborted", "Execution was aborted", raised.traceback}
	case end.Status == executor.Interrupted:
		return &failure{cmp.Or(raised.name, "KeyboardInterrupt"), raised.value, raised.traceback}
	}
	return t.failure
}

// death says how a kernel ended.
func death(exit *executor.Exit) string {
	switch {
	case exit == nil:
		return "the kernel died"
	case exit.OOM:
		return "the kernel was killed, as the sandbox was out of memory"
	case exit.Signal != "":
		return "the kernel was ended by the signal " + exit.Signal
	}
	return fmt.Sprintf("the kernel's process exited with status %d", exit.Code)
}

func stderr(exit *executor.Exit) string {
	if exit == nil {
		return ""
	}
	return exit.Stderr
}

// member returns the JSON of a member of an object; nil where it has none.
func member(of mime.Bundle, name string) []byte {
	v, ok := of.Get(name)
	if !ok {
		return nil
	}
	return v.JSON()
}

func quote(text string) []byte { return gjson.AppendJSONString(nil, text) }

// object writes messages, JSON objects of a line each, member by member.
type object struct{ b []byte }

func (o *object) open(typ string) *object {
	if len(o.b) > 0 {
		o.b = append(o.b, '\n')
	}
	o.b = append(o.b, '{')
	return o.string("type", typ)
}

func (o *object) raw(name string, value []byte) *object {
	if o.b[len(o.b)-1] != '{' {
		o.b = append(o.b, ',')
	}
	o.b = appendASCII(o.b, quote(name))
	o.b = appendASCII(append(o.b, ':'), value)
	return o
}

func (o *object) string(name, value string) *object { return o.raw(name, quote(value)) }

func (o *object) close() { o.b = append(o.b, '}') }
