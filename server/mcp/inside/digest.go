package inside

import (
	"context"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/mime"
	"github.com/k2sandbox/k2sandbox/process"

	"github.com/k2sandbox/k2sandbox/api"
)

// Bounds of what a digest remembers.
const (
	maxOutputs = 50      // images and the like: of more there is only the number
	maxPinned  = 64      // displays that can be updated
	maxPin     = 4 << 10 // bytes of the text of each
	maxNotes   = 4
	maxName    = 200  // code points of an exception's name
	maxValue   = 2000 // code points of what it says
)

// digest is what there is to say of the lines of a log from some place on, however many these are.
type digest struct {
	next position // behind all that was taken

	streams [4]excerpt // in the order of the names below
	stdout  screen
	stderr  screen
	result  screen
	trace   screen
	newest  *screen // that was written last

	pins    []pin
	outputs []output // the first of them
	more    int      // outputs beyond these
	clear   bool     // at the next output
	failure *api.MCPFailure
	notes   []string
	last    []byte // the End line
}

// names are those of the streams.
var names = [4]string{"stdout", "stderr", "result", "traceback"}

// pin is what a display shows that can be updated.
type pin struct {
	id   string
	text string
}

// output is an image or another file that was displayed.
type output struct {
	seq     int64 // of its line
	mime    string
	display string // the id of its display, if it has one
}

// newDigest returns a digest of what comes from a place on, of which it keeps what so many code points can show.
func newDigest(from position, chars int) *digest {
	d := &digest{next: from}
	for i, s := range []*screen{&d.stdout, &d.stderr, &d.result, &d.trace} {
		d.streams[i] = newExcerpt(chars)
		s.to = &d.streams[i]
	}
	d.newest = &d.stdout
	return d
}

// read takes lines until the log ends, which it reports, ctx is done, or, where upTo is not 0, that line was taken.
func (d *digest) read(ctx context.Context, s source, upTo int64) (ended bool, err error) {
	for line, err := range s.lines(ctx, d.next.seq-1) {
		if err != nil {
			return false, err
		}
		d.take(line)
		if line.Type == journal.End {
			return true, nil
		}
		if line.Seq == upTo {
			return false, nil
		}
		if err := ctx.Err(); err != nil {
			return false, err
		}
	}
	return true, nil
}

// take takes the next line.
func (d *digest) take(line journal.Line) {
	at := position{seq: line.Seq}
	if d.next.seq == line.Seq {
		at = d.next
	}
	d.next = position{seq: line.Seq + 1}
	switch line.Type {
	case executor.Stdout, executor.Stderr:
		raw, _ := process.Bytes(line)
		d.wipe(d.clear)
		d.write(d.stream(line.Type), strings.ToValidUTF8(string(raw), "\ufffd"), at)
	case executor.Result, executor.Update:
		d.wipe(d.clear)
		d.display(line, at)
	case executor.Clear:
		d.clear = gjson.GetBytes(line.JSON, "wait").Bool()
		d.wipe(!d.clear)
	case executor.Error:
		d.raised(line, at)
	case executor.Truncated:
		if len(d.notes) == maxNotes {
			break
		}
		d.notes = append(d.notes, gjson.GetBytes(line.JSON, "bytes").String()+" bytes of "+gjson.GetBytes(line.JSON, "stream").String()+" were more than is kept, and are lost")
	case executor.End:
		d.last = line.JSON
	}
}

func (d *digest) stream(t journal.Type) *screen {
	if t == executor.Stderr {
		return &d.stderr
	}
	return &d.stdout
}

// write writes what comes after a place in the text of a line to a screen.
func (d *digest) write(to *screen, text string, at position) {
	at.off = min(at.off, len(text))
	for at.off < len(text) && !utf8.RuneStart(text[at.off]) {
		at.off++ // of a place that nobody was given
	}
	to.write(text[at.off:], at)
	d.newest = to
}

// wipe does what clear_output asks for.
func (d *digest) wipe(now bool) {
	if !now {
		return
	}
	d.clear = false
	d.stdout.reset()
	d.stderr.reset()
	d.result.reset()
	d.pins, d.outputs, d.more = nil, nil, 0
}

// display takes a result or an update.
func (d *digest) display(line journal.Line, at position) {
	members := mime.New(line.JSON)
	var data mime.Bundle
	if v, ok := members.Get("data"); ok {
		data = mime.New(v.JSON())
	}
	id := ""
	if v, ok := members.Get("display_id"); ok {
		id = v.Text()
	}
	text, typ := render(data)
	if typ != "" {
		d.addOutput(output{line.Seq, typ, id})
	}
	if id != "" && d.pin(id, text) {
		return
	}
	if text != "" {
		d.write(&d.result, strings.TrimSuffix(text, "\n")+"\n", at)
	}
}

// pin keeps the text of a display that can be updated, in place of what it showed before, and reports whether there is a place for it.
func (d *digest) pin(id, text string) bool {
	i := slices.IndexFunc(d.pins, func(p pin) bool { return p.id == id })
	switch {
	case len(text) > maxPin || len(id) > maxPin:
		return false
	case i >= 0:
		d.pins[i].text = text
	case len(d.pins) < maxPinned:
		d.pins = append(d.pins, pin{id, text})
	default:
		return false
	}
	return true
}

func (d *digest) addOutput(o output) {
	i := slices.IndexFunc(d.outputs, func(one output) bool { return o.display != "" && one.display == o.display })
	switch {
	case i >= 0:
		d.outputs[i] = o
	case len(d.outputs) < maxOutputs:
		d.outputs = append(d.outputs, o)
	default:
		d.more++
	}
}

// raised takes what the code raised.
func (d *digest) raised(line journal.Line, at position) {
	e, err := executor.DecodeLine(line)
	if err != nil {
		return
	}
	d.failure = &api.MCPFailure{Name: clean(e.Name, maxName), Value: clean(e.Value, maxValue)}
	text := strings.Join(e.Traceback, "\n")
	if text == "" {
		text = e.Name + ": " + e.Value
	}
	d.write(&d.trace, text+"\n", at)
}

// finish writes what waits for something that does not come any more.
func (d *digest) finish() {
	for _, p := range d.pins {
		if p.text != "" {
			d.result.write(p.text+"\n", d.next)
		}
	}
	for _, s := range []*screen{&d.stdout, &d.stderr, &d.result, &d.trace} {
		s.flush()
	}
}

// clean returns a text as a screen shows it, with no more than n code points.
func clean(text string, n int) string {
	x := newExcerpt(n)
	s := screen{to: &x}
	s.write(strings.ToValidUTF8(text, "\ufffd"), position{seq: 1})
	s.flush()
	return x.show(n, func(position) string { return "" }).text
}

// share returns how many of n code points each stream gets: all that it needs, where it needs less than a fair share.
func (d *digest) share(n int) (shares [4]int) {
	order := []int{0, 1, 2, 3}
	slices.SortStableFunc(order, func(i, j int) int {
		return int(min(d.streams[i].total, 1<<30)) - int(min(d.streams[j].total, 1<<30))
	})
	for k, i := range order {
		fair := n / (len(order) - k)
		shares[i] = int(min(d.streams[i].total, int64(fair)))
		n -= shares[i]
	}
	return shares
}
