package kernel_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

// A question comes on a socket of its own, and yet behind what was published before it.
func TestQuestionComesBehindWhatWasPrinted(t *testing.T) {
	k := start(t, kernel.Options{Spec: kernel.PythonSpec(python(t))})
	content, _ := json.Marshal(map[string]any{"code": "print('before'); input()", "allow_stdin": true})
	for range 20 {
		req := wire.Request{Channel: wire.Shell, ID: wire.NewID(), Type: "execute_request", Content: content}
		var seen []string
		for m, err := range k.Ask(t.Context(), req) {
			if err != nil {
				t.Fatal(err)
			}
			seen = append(seen, m.Type())
			if m.Type() == "input_request" {
				answer := wire.Request{Channel: wire.Stdin, ID: wire.NewID(), Type: "input_reply", Content: []byte(`{"value":""}`)}
				if err := k.Tell(t.Context(), answer); err != nil {
					t.Fatal(err)
				}
			}
			if m.Type() == "execute_reply" {
				break
			}
		}
		asked := slices.Index(seen, "input_request")
		if printed := slices.Index(seen, "stream"); printed < 0 || printed > asked {
			t.Fatalf("got %s", strings.Join(seen, " "))
		}
	}
}
