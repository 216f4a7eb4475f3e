package executor_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

// chatter plays a cell that prints n lines of 100 characters and shows a result after each hundredth.
func chatter(n int) func(k *fake, req wire.Request) {
	return func(k *fake, req wire.Request) {
		k.begin(req.ID)
		for i := range n {
			k.print(req.ID, fmt.Sprintf("%099d\n", i))
			if i%100 == 99 {
				k.pub(req.ID, "display_data", `{"data":{"text/plain":"shown"},"metadata":{}}`)
			}
		}
		k.ok(req.ID)
	}
}

func onDisk(t *testing.T) func() (journal.Store, error) {
	return func() (journal.Store, error) { return os.CreateTemp(t.TempDir(), "events") }
}

func TestLongLogSpillsAndReplays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := executor.Options{MemoryLimit: 4 << 10, Spill: onDisk(t)}
		e := submit(t, startWith(t, newFake(chatter(5000)), o), executor.Cell{})
		var live sync.WaitGroup
		for range 3 { // followers, while it grows
			live.Go(func() { checkChatter(t, e, 5000) })
		}
		<-e.Done()
		live.Wait()
		checkChatter(t, e, 5000)
		if memory, stored := e.Size(); memory > 130<<10 || stored < 500_000 {
			t.Errorf("%d bytes in memory, %d in the store", memory, stored)
		}
		for _, after := range []int64{1, 777, 5051} {
			for line, err := range e.Lines(t.Context(), after) {
				if err != nil || line.Seq != after+1 {
					t.Fatalf("after %d comes %d, %v", after, line.Seq, err)
				}
				break
			}
		}
		e.Evict()
		for _, err := range e.Lines(t.Context(), 0) {
			if !errors.Is(err, executor.ErrEvicted) {
				t.Errorf("an evicted run yields %v", err)
			}
		}
	})
}

func checkChatter(t *testing.T, e *executor.Execution, n int) {
	var text strings.Builder
	shown, seq := 0, int64(0)
	for event, err := range e.Events(t.Context(), 0) {
		if err != nil {
			t.Error(err)
			return
		}
		if seq++; event.Seq != seq {
			t.Errorf("seq %d after %d", event.Seq, seq-1)
			return
		}
		text.WriteString(event.Text)
		if event.Type == executor.Result {
			shown++
		}
	}
	if text.Len() != 100*n || shown != n/100 {
		t.Errorf("got %d bytes of text and %d results", text.Len(), shown)
	}
}

func TestFullLogCutsStreamsAndSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		testCut(t, executor.Options{LogLimit: 100 << 10})
	})
}

func TestLogWithoutStoreCutsStreamsAndSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := executor.Options{MemoryLimit: 100 << 10}
		testCut(t, o)
		o.Spill = func() (journal.Store, error) { return nil, errors.New("disk full") }
		testCut(t, o)
	})
}

func testCut(t *testing.T, o executor.Options) {
	t.Helper()
	e := submit(t, startWith(t, newFake(chatter(5000)), o), executor.Cell{})
	text, shown, cut := 0, 0, int64(0)
	for _, event := range all(t, e) {
		text += len(event.Text)
		cut += event.Bytes
		if event.Type == executor.Result {
			shown++
		}
	}
	// the line end is two bytes in JSON
	if shown != 50 || text == 0 || cut == 0 || text/100*101+int(cut) != 5000*101 {
		t.Errorf("%d results, %d bytes of text, %d told as cut", shown, text, cut)
	}
}

func TestBackgroundDropsTheOldestAndSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFake(nil)
		c := startWith(t, k, executor.Options{Background: 64 << 10})
		for i := range 5000 {
			k.print("", fmt.Sprintf("%099d\n", i))
		}
		k.print("", "last")
		var first executor.Event
		for line, err := range c.Background(t.Context(), 4990) { // until all is there
			if err != nil {
				t.Fatal(err)
			}
			if line.Seq == 5001 {
				break
			}
		}
		for line, err := range c.Background(t.Context(), 0) {
			event, err2 := executor.DecodeLine(line)
			if err != nil || err2 != nil {
				t.Fatal(err, err2)
			}
			if first.Seq == 0 {
				first = event
				continue
			}
			if event.Seq != first.Seq+1 || event.Type != executor.Stdout {
				t.Errorf("after %+v comes %+v", first, event)
			}
			break
		}
		if first.Type != executor.Truncated || first.Bytes == 0 || first.Seq < 3000 {
			t.Errorf("first comes %+v", first)
		}
	})
}

// FuzzTranslate feeds any JSON object as content of any message: a run ends, and its
// log is lines of valid JSON.
func FuzzTranslate(f *testing.F) {
	for _, seed := range []struct{ kind, content string }{
		{"stream", `{"name":"stdout","text":"a\ud800\n"}`},
		{"stream", `{"name":"stderr","text":5}`},
		{"execute_result", "{\"data\":{\n\"text/plain\":\r\"x\"},\"metadata\":{},\"transient\":{\"display_id\":\"d\"}}"},
		{"update_display_data", `{"data":[],"transient":null}`},
		{"error", `{"ename":1,"evalue":{},"traceback":"x"}`},
		{"clear_output", `{"wait":"yes"}`},
		{"execute_input", `{"execution_count":1e99}`},
		{"execute_reply", `{"status":"error","payload":{"source":"page"}}`},
		{"execute_reply", `{"status":"ok","payload":[{"source":"page","data":{"a":1}},3]}`},
		{"status", `{"execution_state":["idle"]}`},
		{"input_request", `{"prompt":null}`},
	} {
		f.Add(seed.kind, []byte(seed.content))
	}
	f.Fuzz(func(t *testing.T, kind string, content []byte) {
		if !json.Valid(content) || content[0] != '{' {
			return // wire.Decode lets nothing else through
		}
		channel := map[string]wire.Channel{"execute_reply": wire.Shell, "input_request": wire.Stdin}[kind]
		if channel == "" {
			channel = wire.IOPub
		}
		synctest.Test(t, func(t *testing.T) {
			k := newFake(func(k *fake, req wire.Request) {
				k.begin(req.ID)
				k.say(channel, req.ID, kind, string(content))
				k.ok(req.ID)
			})
			e := submit(t, start(t, k), executor.Cell{})
			last := executor.Line{}
			for line, err := range e.Lines(t.Context(), 0) {
				if err != nil {
					t.Fatal(err)
				}
				if !json.Valid(line.JSON) {
					t.Fatalf("not JSON: %s", line.JSON)
				}
				if line.Seq != last.Seq+1 {
					t.Fatalf("%d after %d", line.Seq, last.Seq)
				}
				last = line
			}
			if last.Type != executor.End {
				t.Fatalf("the last line is %s", last.JSON)
			}
		})
	})
}
