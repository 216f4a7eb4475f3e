package main

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"testing"
)

// A server that cannot begin leaves no folder that nobody finds again.
func TestNoFolderStaysOfAServerThatDoesNotBegin(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	f := &facade{o: &serving{address: "127.0.0.1:0"}, sockets: sockets{{name: ownSocket, ln: ln}}, log: slog.New(slog.DiscardHandler)}
	remove, err := f.findPlace(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.begin(&backend{}, func() error { return errors.New("nobody hears") }); err == nil {
		t.Error("it has begun")
	}
	remove()
	if _, err := os.Stat(f.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is there: %v", err)
	}
}
