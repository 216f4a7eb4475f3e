package inside_test

import (
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
)

// What a kernel died of comes behind the stream, for who counts and reads no streams.
func TestDeathsAreTold(t *testing.T) {
	for code, cause := range map[string]api.Death{
		"1": "", "1/0": "", "import os; os._exit(3)": api.DeathByExit, "import os, signal; os.kill(os.getpid(), signal.SIGSEGV); input()": api.DeathBySignal,
	} {
		resp := call(t, "POST", "/v1/code", api.RunRequest{Code: code})
		text := read(t, resp)
		if got := resp.Trailer.Get(api.DeathTrailer); got != string(cause) {
			t.Errorf("%s: got %q, want %q: %s", code, got, cause, text)
		}
	}
}
