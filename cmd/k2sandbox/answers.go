package main

import (
	"bufio"
	"context"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"
)

// endOfInput is what IPython kernels take for the end of their input: input()
// raises EOFError.
const endOfInput = "\x04"

// answers gives a run the lines of standard input that it asks for.
type answers struct {
	send     func(ctx context.Context, value string) error
	terminal *term.State // before anything was read; nil where there is no terminal

	mu    sync.Mutex // one question at a time
	file  *os.File
	lines *bufio.Reader
}

func newAnswers(file *os.File, send func(context.Context, string) error) *answers {
	state, err := term.GetState(int(file.Fd()))
	if err != nil {
		state = nil
	}
	return &answers{send: send, terminal: state, file: file, lines: bufio.NewReader(file)}
}

// answer reads a line and hands it on. It may outlast the run, which need not wait
// for somebody to press Enter.
func (a *answers) answer(ctx context.Context, password bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	value, err := a.read(password)
	if err != nil && value == "" {
		value = endOfInput
	}
	_ = a.send(ctx, value) // fails where the run waits no more: the line was for nobody
}

func (a *answers) read(password bool) (string, error) {
	if password && a.terminal != nil {
		secret, err := term.ReadPassword(int(a.file.Fd()))
		os.Stderr.WriteString("\n")
		return string(secret), err
	}
	line, err := a.lines.ReadString('\n')
	return strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"), err
}

// restore gives the terminal back its echo, which a question that nobody answered has taken.
func (a *answers) restore() {
	if a.terminal != nil {
		_ = term.Restore(int(a.file.Fd()), a.terminal)
	}
}
