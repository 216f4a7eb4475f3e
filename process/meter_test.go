package process_test

import (
	"io"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/process"
)

// What a process used is that of the time between the two calls, also where it has ended before the second one.
func TestMeasure(t *testing.T) {
	const work = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done\n"
	in, ask := io.Pipe()
	out, said := lines(t)
	p := start(t, process.Command{Args: sh(work + work + work + "echo; while read x; do eval \"$x\"; echo; done"), Stdin: in, Stdout: out})
	<-said
	idle := p.Measure()()
	stop := p.Measure()
	if _, err := io.WriteString(ask, strings.TrimSpace(work)+"\n"); err != nil {
		t.Fatal(err)
	}
	<-said
	once := stop()
	if once.CPU <= idle.CPU || once.MemoryPeak <= 0 || idle.MemoryPeak <= 0 {
		t.Errorf("used %v idle and %v at work", idle, once)
	}
	stop, late := p.Measure(), p.Measure
	if err := ask.Close(); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if last := stop(); last.CPU >= once.CPU || last.MemoryPeak <= 0 {
		t.Errorf("used %v at its end, and %v at work before", last, once)
	}
	if c := late()(); c != (process.Cost{}) {
		t.Errorf("used %v when it had ended", c)
	}
}
