package network_test

import (
	"net"
	"strings"
	"testing"
)

func TestTCPReachesTheOutside(t *testing.T) {
	w := newWorld(t)
	w.start(t)
	for _, host := range []string{public4, public6} {
		at := net.JoinHostPort(host, "8080")
		go echo(w.outside.listen(t, at))
		c, err := w.box.Dial(t.Context(), "tcp", at)
		if err != nil {
			t.Fatalf("%s: %v", at, err)
		}
		text := strings.Repeat("hello ", 1_000_000)
		got, err := say(c, text)
		if err != nil || got != text {
			t.Errorf("%s: %d bytes of %d, %v", at, len(got), len(text), err)
		}
		c.Close()
	}
}
