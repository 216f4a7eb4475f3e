package journal_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/journal"
)

// word is an entry with a number of its own.
type word struct {
	n      int
	stream string
}

func (w word) Piece() (string, int) { return w.stream, 100 }

func (w word) AppendLine(dst []byte, seq int64, at time.Time) []byte {
	dst = journal.AppendHead(dst, seq, "word", at)
	return fmt.Appendf(dst, `,"n":%d,"pad":"%0100d"}`, w.n, 0)
}

type line struct {
	Seq    int64
	Type   journal.Type
	N      int
	Stream string
	Bytes  int64
}

func decode(t *testing.T, l journal.Line) (v line) {
	t.Helper()
	if err := json.Unmarshal(l.JSON, &v); err != nil || v.Seq != l.Seq || v.Type != l.Type {
		t.Fatalf("%v: %s", err, l.JSON)
	}
	return v
}

func onDisk(t *testing.T) func() (journal.Store, error) {
	return func() (journal.Store, error) { return os.CreateTemp(t.TempDir(), "store") }
}

// A ring keeps its newest lines, in memory and on disk, and tells what is gone.
func TestRing(t *testing.T) {
	for _, spill := range []func() (journal.Store, error){nil, onDisk(t), journal.TempStore} {
		l := journal.New(journal.Options{Memory: 100 << 10, Limit: 500 << 10, Spill: spill, Ring: "output"})
		const n = 50_000
		var readers sync.WaitGroup
		for range 3 {
			readers.Go(func() { checkRing(t, l, n, 0) })
		}
		for i := range n {
			l.Append(word{i + 1, "output"})
		}
		l.Close()
		readers.Wait()
		checkRing(t, l, n, 0)
		checkRing(t, l, n, n-10)
		size, memory, lines := l.Size()
		if lines != n || memory > 200<<10 || size > 800<<10 || spill != nil && size < 400<<10 {
			t.Errorf("%d bytes, %d in memory, %d lines", size, memory, lines)
		}
		l.Evict()
		for _, err := range l.Lines(t.Context(), 0) {
			if err != journal.ErrEvicted {
				t.Errorf("an evicted log yields %v", err)
			}
		}
	}
}

// checkRing reads to the end: lines come in order, and where some are missing a
// truncated line says how many bytes they had.
func checkRing(t *testing.T, l *journal.Log, n, after int64) {
	last := after
	for got, err := range l.Lines(t.Context(), after) {
		if err != nil {
			t.Error(err)
			return
		}
		v := decode(t, got)
		switch {
		case v.Type == journal.Truncated && v.Seq > last && v.Bytes == words(last+1, v.Seq) && v.Stream == "output":
		case v.Type == "word" && v.Seq == last+1 && int64(v.N) == v.Seq:
		default:
			t.Errorf("after %d comes %+v", last, v)
			return
		}
		last = v.Seq
	}
	if last != n {
		t.Errorf("ended at %d", last)
	}
}

// words is how many bytes the lines of some words have.
func words(first, last int64) (n int64) {
	for seq := first; seq <= last; seq++ {
		n += int64(len(word{n: int(seq)}.AppendLine(nil, seq, time.Time{}))) + 1
	}
	return n
}

// full is a store on a disk that is full after some writes.
type full struct {
	journal.Store
	left int
}

func (f *full) WriteAt(p []byte, off int64) (int, error) {
	if f.left--; f.left < 0 {
		n, _ := f.Store.WriteAt(p[:len(p)/2], off)
		return n, syscall.ENOSPC
	}
	return f.Store.WriteAt(p, off)
}

// A store that fails costs a ring its older lines, another log pieces of streams, and
// nothing else; what it took before can be read.
func TestAStoreThatFails(t *testing.T) {
	for _, left := range []int{0, 1, 3, 9} {
		spill := func() (journal.Store, error) {
			store, err := journal.TempStore()
			if left == 0 {
				err = syscall.ENOSPC
			}
			return &full{store, left}, err
		}
		ring := journal.New(journal.Options{Memory: 100 << 10, Limit: 500 << 10, Spill: spill, Ring: "output"})
		other := journal.New(journal.Options{Memory: 100 << 10, Limit: 500 << 10, Spill: spill})
		const n = 5_000
		var readers sync.WaitGroup
		readers.Go(func() { checkRing(t, ring, n, 0) })
		for i := range n {
			ring.Append(word{i + 1, "output"})
			other.Append(word{i + 1, "stdout"})
		}
		other.Append(word{-1, ""})
		ring.Close()
		other.Close()
		readers.Wait()
		checkRing(t, ring, n, 0)
		var lines []line
		for got, err := range other.Lines(t.Context(), 0) {
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, decode(t, got))
		}
		cut, last := lines[len(lines)-2], lines[len(lines)-1]
		if want := int64(n-len(lines)+2) * 100; cut.Type != journal.Truncated || cut.Bytes != want || last.N != -1 {
			t.Errorf("%d lines, then %+v, want %d bytes, and %+v", len(lines), cut, want, last)
		}
		for _, l := range []*journal.Log{ring, other} {
			if _, memory, _ := l.Size(); memory > 200<<10 {
				t.Errorf("%d bytes in memory", memory)
			}
			l.Evict()
		}
	}
}

// Before the first line there is nothing that could be missing.
func TestAfterNothing(t *testing.T) {
	l := journal.New(journal.Options{Memory: 1 << 10, Ring: "output"})
	l.Append(word{1, ""})
	l.Close()
	for got, err := range l.Lines(t.Context(), -5) {
		if v := decode(t, got); err != nil || v.Seq != 1 || v.Type != "word" {
			t.Errorf("got %+v, %v", v, err)
		}
	}
}

// A log that is no ring leaves out pieces of streams at its limit, and says which.
func TestLimit(t *testing.T) {
	l := journal.New(journal.Options{Memory: 10 << 10, Limit: 20 << 10, Spill: onDisk(t)})
	for i := range 1000 {
		l.Append(word{i, "stderr"})
		l.Append(word{i, "stdout"})
	}
	l.Append(word{-1, ""})
	l.Close()
	var told []string
	last := line{}
	for got, err := range l.Lines(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if last = decode(t, got); last.Type == journal.Truncated {
			told = append(told, last.Stream)
		}
	}
	if strings.Join(told, " ") != "stdout stderr" || last.N != -1 {
		t.Errorf("told %v, last %+v", told, last)
	}
}

// Who has read the last event finds the log done.
func TestEnd(t *testing.T) {
	for range 1000 {
		l := journal.New(journal.Options{Memory: 1 << 10})
		var read sync.WaitGroup
		read.Go(func() {
			lines := 0
			for _, err := range l.Lines(t.Context(), 0) {
				if lines++; err != nil {
					t.Error(err)
				}
			}
			if lines != 2 {
				t.Errorf("%d lines", lines)
			}
		})
		read.Go(func() {
			for line := range l.Lines(t.Context(), 1) {
				select {
				case <-l.Done():
				default:
					t.Errorf("read %s before it was done", line.JSON)
				}
			}
		})
		l.Append(word{1, "output"})
		select {
		case <-l.Done():
			t.Error("done before its end")
		default:
		}
		l.End(word{2, "output"})
		read.Wait()
	}
	evicted := journal.New(journal.Options{Memory: 1 << 10})
	evicted.Evict()
	evicted.End(word{1, "output"})
	<-evicted.Done()
	if _, _, lines := evicted.Size(); lines != 0 {
		t.Errorf("%d lines of a log that was given up", lines)
	}
}
