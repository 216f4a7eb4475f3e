package sudo_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/internal/leaktest"
	"github.com/k2sandbox/k2sandbox/process"
	"github.com/k2sandbox/k2sandbox/sudo"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if err := leaktest.Goroutines(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// serve returns the address of a service for users with these ids, which starts commands as they are.
func serve(t *testing.T, may ...uint32) *net.UnixAddr {
	t.Helper()
	on, err := process.NewThread(func() error { return nil }, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(on.Close)
	address := &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"}
	l, err := net.ListenUnix("unix", address)
	if err != nil {
		t.Fatal(err)
	}
	s := sudo.Serve(l, on, slog.New(slog.DiscardHandler), may...)
	t.Cleanup(s.Close)
	return address
}

// asker is a sudo, and what its command writes.
type asker struct {
	*net.UnixConn
	out *bufio.Reader
}

// ask sends a request with so many descriptors, of which the second is a pipe.
func ask(t *testing.T, at *net.UnixAddr, request string, descriptors int) *asker {
	t.Helper()
	c, err := net.DialUnix("unix", nil, at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	t.Cleanup(func() { r.Close() })
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	var fds []int
	for i := range descriptors {
		if fds = append(fds, int(null.Fd())); i == 1 {
			fds[i] = int(w.Fd())
		}
	}
	if _, _, err := c.WriteMsgUnix([]byte{0}, unix.UnixRights(fds...), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	return &asker{c, bufio.NewReader(r)}
}

// command is a request to run a line for sh.
func command(line string) string {
	text, _ := json.Marshal(map[string]any{"args": [][]byte{[]byte("/bin/sh"), []byte("-c"), []byte(line)}, "dir": []byte("/"), "env": [][]byte{[]byte("A=b")}})
	return string(text) + "\n"
}

// answer is what the service says at the end.
func (a *asker) answer(t *testing.T) string {
	t.Helper()
	text, err := io.ReadAll(a)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func (a *asker) line(t *testing.T) string {
	t.Helper()
	line, err := a.out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

func me() uint32 { return uint32(os.Getuid()) }

func TestCommands(t *testing.T) {
	at := serve(t, me())
	a := ask(t, at, command("echo $A; pwd; exit 7"), 3)
	if got := a.line(t) + a.line(t) + a.answer(t); got != `b/{"code":7,"signal":0}` {
		t.Errorf("got %s", got)
	}
	a = ask(t, at, command("kill -9 $$"), 3)
	if got := a.answer(t); got != `{"code":0,"signal":9}` {
		t.Errorf("got %s", got)
	}
	a = ask(t, at, command("trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.01; done"), 3)
	a.line(t)
	fmt.Fprintln(a, `nonsense`)
	fmt.Fprintln(a, `{"signal":-1}`)
	fmt.Fprintln(a, `{"signal":15}`)
	if got := a.line(t) + a.answer(t); got != `caught{"code":3,"signal":0}` {
		t.Errorf("got %s", got)
	}
}

// A command ends with its sudo, whatever it thinks of SIGHUP, and what it left behind on purpose does not.
func TestCommandWhoseSudoHasGone(t *testing.T) {
	a := ask(t, serve(t, me()), command("trap '' HUP; echo ready; while :; do sleep 0.01; done"), 3)
	a.line(t)
	a.Close()
	if rest, err := io.ReadAll(a.out); err != nil || len(rest) > 0 { // ends when nobody has its output open
		t.Errorf("%q %v", rest, err)
	}
}

func TestCloseEndsCommands(t *testing.T) {
	var out *asker
	t.Run("", func(t *testing.T) {
		out = ask(t, serve(t, me()), command("trap '' HUP TERM; echo ready; while :; do sleep 0.01; done"), 3)
		out.line(t)
		out.out = bufio.NewReader(strings.NewReader(""))
	}) // and the service is closed, which waits for it
}

func TestRefusals(t *testing.T) {
	at := serve(t, me())
	for _, c := range []struct {
		request     string
		descriptors int
		want        string
	}{
		{"{}\n", 3, "no command"},
		{"[]\n", 3, "cannot unmarshal"},
		{command("true"), 1, "1 descriptors came in place of 3"},
		{command("true"), 30, "descriptors came in place of 3"},
		{`{"args":["eA=="]}` + "\n", 3, "is not in PATH"},
		{strings.Repeat("x", 5000) + "\n", 3, "invalid character"},
		{`{"args":[""],"dir":"eA=="}` + "\n", 3, "no command"},
	} {
		if got := ask(t, at, c.request, c.descriptors).answer(t); !strings.Contains(got, c.want) || !strings.Contains(got, `"error"`) {
			t.Errorf("%.40s: %s, want %s", c.request, got, c.want)
		}
	}
	half := ask(t, at, `{"args":`, 3)
	if err := half.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got := half.answer(t); !strings.Contains(got, "unexpected end of JSON") {
		t.Errorf("half a request: %s", got)
	}
	if got := ask(t, serve(t, me()+1), command("true"), 3).answer(t); !strings.Contains(got, "may not become root") {
		t.Errorf("another user: %s", got)
	}
}

// Who may not, is told before anything is read of it, and takes no place of those who may.
func TestOthersAreNotHeard(t *testing.T) {
	at := serve(t, me()+1)
	for range 300 { // more than there are places
		c, err := net.DialUnix("unix", nil, at)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		got, err := bufio.NewReader(c).ReadString('\n')
		if err != nil || !strings.Contains(got, "may not become root") {
			t.Fatalf("%s, %v", got, err)
		}
	}
}

// The program is one for sh, and for Python, wherever that is.
func TestProgram(t *testing.T) {
	text := sudo.Program(`/a path/to's/python`)
	if !strings.HasPrefix(text, "#!/bin/sh\n'''exec' '/a path/to'\"'\"'s/python' -I -S") {
		t.Errorf("got %.200s", text)
	}
}
