package python

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

var (
	errDiskFull  = errors.New("the disk is full")
	errNoNetwork = errors.New("the package index cannot be reached: check the network, or the proxy and index settings of pip and uv")
)

// signs are what installers print when something is missing that the user can do something about.
var signs = []struct {
	text  string
	means error
}{
	{"No space left on device", errDiskFull},
	{"Disk quota exceeded", errDiskFull},
	{"name resolution", errNoNetwork},
	{"Name or service not known", errNoNetwork},
	{"nodename nor servname provided", errNoNetwork},
	{"dns error", errNoNetwork},
	{"Failed to establish a new connection", errNoNetwork},
	{"Network is unreachable", errNoNetwork},
	{"Connection refused", errNoNetwork},
	{"tcp connect error", errNoNetwork},
	{"Connection timed out", errNoNetwork},
	{"ProxyError", errNoNetwork},
	{"Max retries exceeded", errNoNetwork},
	{"error sending request", errNoNetwork},
}

// explain adds to the failure of an installer what it most likely means, and its last words.
func explain(err error, words string) error {
	for _, sign := range signs {
		if strings.Contains(words, sign.text) {
			return fmt.Errorf("%w (%w)%s", sign.means, err, words)
		}
	}
	return fmt.Errorf("%w%s", err, words)
}

// tail is a writer that keeps the last lines, and may hand on each.
type tail struct {
	line  func(string)
	part  []byte
	lines []string
}

const tailLines, tailWidth = 12, 500

func (t *tail) Write(p []byte) (int, error) {
	t.part = append(t.part, p...)
	for {
		end := bytes.IndexAny(t.part, "\r\n")
		if end < 0 {
			if len(t.part) > 1<<16 {
				t.part = t.part[len(t.part)-tailWidth:]
			}
			return len(p), nil
		}
		t.add(string(t.part[:end]))
		t.part = t.part[end+1:]
	}
}

func (t *tail) add(line string) {
	line = strings.TrimRight(line, " \t")
	if line == "" {
		return
	}
	if t.line != nil {
		t.line(line)
	}
	t.lines = append(t.lines, strings.ToValidUTF8(line[:min(len(line), tailWidth)], ""))
	if len(t.lines) > tailLines {
		t.lines = t.lines[1:]
	}
}

// String is the last lines, each indented on a line of its own, or empty if there was none.
func (t *tail) String() string {
	if len(t.part) > 0 {
		t.add(string(t.part))
		t.part = nil
	}
	if len(t.lines) == 0 {
		return ""
	}
	return "\n    " + strings.Join(t.lines, "\n    ")
}
