package inside_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/process"
)

type terminalModel struct {
	Name         string
	LastActivity string `json:"last_activity"`
}

// screen is a client's WebSocket at a terminal.
type screen struct {
	*websocket.Conn
	shown strings.Builder
}

func look(t *testing.T, name string) *screen {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), site.URL+"/terminals/websocket/"+name, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	s := &screen{Conn: conn}
	if kind, _, err := s.next(t.Context()); kind != "setup" || err != nil {
		t.Fatalf("the first message is %q, %v", kind, err)
	}
	return s
}

func (s *screen) next(ctx context.Context) (kind, text string, err error) {
	_, raw, err := s.Read(ctx)
	if err != nil {
		return "", "", err
	}
	var message []any
	if err := json.Unmarshal(raw, &message); err != nil || len(message) != 2 {
		return "", "", fmt.Errorf("%v: %s", err, raw)
	}
	text, _ = message[1].(string)
	return message[0].(string), text, nil
}

func (s *screen) say(t *testing.T, message ...any) {
	t.Helper()
	raw, err := json.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Write(t.Context(), websocket.MessageText, raw); err != nil {
		t.Fatal(err)
	}
}

// until reads until a text is on the screen.
func (s *screen) until(t *testing.T, text string) {
	t.Helper()
	for !strings.Contains(s.shown.String(), text) {
		kind, more, err := s.next(t.Context())
		if err != nil || kind != "stdout" {
			t.Fatalf("%q %v before %q: %q", kind, err, text, s.shown.String())
		}
		s.shown.WriteString(more)
	}
}

// rest reads to the end, which is a disconnect and a close.
func (s *screen) rest(t *testing.T) {
	t.Helper()
	last := ""
	for {
		kind, _, err := s.next(t.Context())
		if websocket.CloseStatus(err) == websocket.StatusNormalClosure && last == "disconnect" {
			return
		}
		if err != nil {
			t.Fatalf("after %q: %v", last, err)
		}
		last = kind
	}
}

func TestATerminalIsAShellInTheSandbox(t *testing.T) {
	in := folder(t)
	m := get[terminalModel](t, http.StatusOK, "POST", "/api/terminals", object{"cwd": in})
	s := look(t, m.Name)
	s.say(t, "set_size", 33, 101, 5, 6)
	s.say(t, "stdin", "stty size; pwd; printf 'gr\\303\\274n\\n' | cat; echo end-$((40+2))\r")
	s.until(t, "end-42")
	for _, want := range []string{"33 101", filepath.Join(root, in), "grün"} {
		if !strings.Contains(s.shown.String(), want) {
			t.Errorf("no %q on %q", want, s.shown.String())
		}
	}
	late := look(t, m.Name)
	late.until(t, "end-42")
	late.say(t, "set_size", 20, 200)
	late.say(t, "stdin", "stty size; echo sm''all\r")
	s.until(t, "small\r\n")
	if !strings.Contains(s.shown.String(), "20 101") {
		t.Errorf("not the size that fits on both: %q", s.shown.String())
	}
	late.CloseNow()
	s.say(t, "stdin", "exit\r")
	s.rest(t)
	get[object](t, http.StatusNotFound, "GET", "/api/terminals/"+m.Name, nil)
}

func TestATerminalHasTheNameThatAClientGivesIt(t *testing.T) {
	m := get[terminalModel](t, http.StatusOK, "POST", "/api/terminals", object{"name": "mine", "cwd": os.TempDir()})
	if again := get[terminalModel](t, http.StatusOK, "POST", "/api/terminals", object{"name": "mine"}); m.Name != "mine" || again.Name != "mine" {
		t.Errorf("%+v, %+v", m, again)
	}
	if all := get[[]terminalModel](t, http.StatusOK, "GET", "/api/terminals", nil); len(all) != 1 || all[0].Name != "mine" {
		t.Errorf("%+v", all)
	}
	s := look(t, "mine")
	get[object](t, http.StatusNoContent, "DELETE", "/api/terminals/mine", nil)
	s.rest(t)
	get[object](t, http.StatusNotFound, "DELETE", "/api/terminals/mine", nil)
	if all := get[[]terminalModel](t, http.StatusOK, "GET", "/api/terminals", nil); len(all) != 0 {
		t.Errorf("%+v", all)
	}
}

func TestATerminalOfTheNativeAPIIsOneOfJupyter(t *testing.T) {
	job, err := box.StartProcess(agent.ProcessOptions{Cmd: "echo native; read x; printf '\\377'; echo got $x", Terminal: &process.Size{Rows: 24, Cols: 80}})
	if err != nil {
		t.Fatal(err)
	}
	s := look(t, strconv.Itoa(job.Pid()))
	s.until(t, "native")
	s.say(t, "stdin", "it\r")
	s.until(t, "\ufffdgot it")
	s.rest(t)
}

func TestWhatIsNoTerminalsMessageEndsTheViewerAlone(t *testing.T) {
	m := get[terminalModel](t, http.StatusOK, "POST", "/api/terminals", nil)
	for _, bad := range []string{`{`, `{}`, `[]`, `[1]`, `["stdin"]`, `["stdin", 3]`, `["set_size", "x", "y"]`, `["set_size"]`} {
		s := look(t, m.Name)
		if err := s.Write(t.Context(), websocket.MessageText, []byte(bad)); err != nil {
			t.Fatal(err)
		}
		for {
			_, _, err := s.next(t.Context())
			var closed websocket.CloseError
			if errors.As(err, &closed) && closed.Code == websocket.StatusPolicyViolation {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", bad, err)
			}
		}
	}
	s := look(t, m.Name)
	s.say(t, "unknown", 1)
	s.say(t, "set_size", 0, -1)
	s.say(t, "stdin", "echo a''live\r")
	s.until(t, "alive")
	get[object](t, http.StatusNoContent, "DELETE", "/api/terminals/"+m.Name, nil)
	get[object](t, http.StatusBadRequest, "POST", "/api/terminals", object{"name": "../x"})
	for _, path := range []string{"/terminals/websocket/gone", "/api/terminals/gone"} {
		get[object](t, http.StatusNotFound, "GET", path, nil)
	}
}

func TestEventsTellOfWhatIsDoneToFiles(t *testing.T) {
	conn, _, err := websocket.Dial(t.Context(), site.URL+"/api/events/subscribe", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	in := folder(t)
	at := "/api/contents/" + in + "/a"
	get[object](t, http.StatusCreated, "PUT", at, object{})
	get[object](t, http.StatusOK, "PATCH", at, object{"path": in + "/b"})
	get[object](t, http.StatusNoContent, "DELETE", "/api/contents/"+in+"/b", nil)
	for _, want := range []object{
		{"action": "save", "path": in + "/a"},
		{"action": "rename", "path": in + "/b", "source_path": in + "/a"},
		{"action": "delete", "path": in + "/b"},
	} {
		_, raw, err := conn.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got object
		if err := json.Unmarshal(raw, &got); err != nil {
			t.Fatal(err)
		}
		for name := range want {
			if got[name] != want[name] {
				t.Errorf("%v, want %v", got, want)
			}
		}
	}
}
