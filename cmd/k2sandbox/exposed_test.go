package main

import (
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/server"
)

func TestCodeInASandboxIsNoClient(t *testing.T) {
	key, err := server.ReadKeys(strings.NewReader("ada:secret"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		level, network string
		keys           *server.Keys
		refused        bool
	}{
		{"landlock", "tcp", nil, true},
		{"landlock", "tcp", key, false},
		{"landlock", "unix", nil, false},
		{"namespace", "tcp", nil, false},
		{"none", "tcp", nil, false},
	} {
		if err := exposed(c.level, c.network, c.keys); (err != nil) != c.refused {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
