package process

import (
	"io"
	"os"
)

// stdio is what a new process gets as its descriptors 0, 1 and 2; nil is /dev/null.
type stdio struct {
	in, out, err *os.File
	ours         []*os.File // of these, those to close once it has them
}

func (s *stdio) close() {
	for _, f := range s.ours {
		f.Close()
	}
}

// fill opens /dev/null where there is nothing.
func (s *stdio) fill() error {
	for _, f := range []**os.File{&s.in, &s.out, &s.err} {
		if *f != nil {
			continue
		}
		null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		*f, s.ours = null, append(s.ours, null)
	}
	return nil
}

func (p *Process) connectTerminal(s *stdio) error {
	ours, theirs, err := openTerminal(*p.command.Terminal)
	if err != nil {
		return err
	}
	p.terminal, p.theirs, p.pipes = ours, theirs, append(p.pipes, ours, theirs)
	p.outputs = append(p.outputs, newOutput(ours, p.command.Stdout))
	s.in, s.out, s.err = theirs, theirs, theirs
	return p.command.On.give(theirs)
}

// connectPipes returns what feeds stdin; nil where that is a file or nothing.
func (p *Process) connectPipes(s *stdio) (feed func(), err error) {
	if s.out, err = p.connectOutput(s, p.command.Stdout); err != nil {
		return nil, err
	}
	if s.err, err = p.connectOutput(s, p.command.Stderr); err != nil {
		return nil, err
	}
	in := p.command.Stdin
	if f, ok := in.(*os.File); ok || in == nil {
		s.in = f
		return nil, nil
	}
	child, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	s.in, s.ours, p.pipes = child, append(s.ours, child), append(p.pipes, w)
	return func() { io.Copy(w, in); w.Close() }, nil
}

func (p *Process) connectOutput(s *stdio, w io.Writer) (*os.File, error) {
	if f, ok := w.(*os.File); ok || w == nil {
		return f, nil
	}
	r, child, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	s.ours, p.pipes = append(s.ours, child), append(p.pipes, r)
	p.outputs = append(p.outputs, newOutput(r, w))
	return child, nil
}
