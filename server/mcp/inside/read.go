package inside

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/files"
	"github.com/k2sandbox/k2sandbox/server"
)

const (
	sniff       = 8 << 10  // bytes of a file that tell what it is
	maxTextLine = 2000     // code points of a line that are shown
	maxFile     = 32 << 20 // bytes of an image file that is shown
	maxRead     = 20 * time.Second
)

// readFile shows a part of a text, or an image.
func (h *handlers) readFile(w http.ResponseWriter, r *http.Request) error {
	var req api.MCPReadFile
	if err := server.Decode(r, &req); err != nil {
		return err
	}
	f, err := h.box.Files().Open(req.Path)
	if err != nil {
		if errors.Is(err, files.ErrIsDir) {
			return api.Errorf(api.Conflict, "%v: use list_files", err)
		}
		return err
	}
	defer f.Close()
	content := io.Reader(f.Sized())
	if f.Sized() == nil {
		content = f.Stream()
	}
	in := bufio.NewReaderSize(&bounded{r.Context(), content}, 64<<10)
	head, err := in.Peek(sniff)
	if err != nil && err != io.EOF {
		return fmt.Errorf("cannot read %s: %w", req.Path, err)
	}
	told := &api.MCPFile{Path: show(f.Path), Size: f.Size, MIME: mediaType(head)}
	a := &api.MCPAnswer{File: told}
	switch {
	case isText(head):
		told.MIME = textType(f.Path)
		err = readText(in, &req, a)
	case strings.HasPrefix(told.MIME, "image/"):
		err = h.readImage(in, a)
	default:
		err = nil
		sayBinary(head, a)
	}
	if err != nil {
		return err
	}
	return answer(w, a)
}

// bounded is a reader that ends when nobody waits for it any more.
type bounded struct {
	ctx context.Context
	io.Reader
}

func (b *bounded) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	return b.Reader.Read(p)
}

// isText reports whether the beginning of a file looks like UTF-8 text.
func isText(head []byte) bool {
	for cut := 0; cut < utf8.UTFMax && len(head) == sniff && !utf8.Valid(head); cut++ {
		head = head[:len(head)-1] // of a character that goes on
		if cut == utf8.UTFMax-1 {
			return false
		}
		if utf8.Valid(head) {
			break
		}
	}
	return utf8.Valid(head) && bytes.IndexByte(head, 0) < 0
}

// mediaType returns the type of a file by its beginning, without parameters.
func mediaType(head []byte) string {
	typ, _, _ := strings.Cut(http.DetectContentType(head), ";")
	return typ
}

func textType(name string) string {
	switch path.Ext(name) {
	case ".json":
		return "application/json"
	case ".html", ".htm":
		return "text/html"
	case ".svg":
		return "image/svg+xml"
	case ".md":
		return "text/markdown"
	case ".csv":
		return "text/csv"
	}
	return "text/plain"
}

// readText puts the lines that were asked for into the answer, as far as there is room.
func readText(in *bufio.Reader, req *api.MCPReadFile, a *api.MCPAnswer) error {
	first := max(req.Offset, 1)
	room := cmp.Or(req.MaxOutputChars, api.MCPChars)
	skipped, err := skipLines(in, first-1)
	if err != nil {
		return err
	}
	if skipped < first-1 || skipped > 0 && atEnd(in) {
		return api.Invalid("offset", "the file has %d lines, got %d", skipped, first)
	}
	t := a.File
	t.FirstLine = first
	var text strings.Builder
	more := false
	for room > 0 && t.Lines < cmp.Or(req.Limit, 1<<30) && !atEnd(in) {
		line, chars, err := readLine(in, min(room, maxTextLine))
		if err != nil {
			return err
		}
		kept := int64(utf8.RuneCountInString(line))
		if kept < chars && room < maxTextLine && t.Lines > 0 {
			more = true // it is for the next part
			break
		}
		if kept < chars {
			t.Truncated = true
			line = fmt.Sprintf("%s [… %d characters of this line were left out …]\n", strings.TrimSuffix(line, "\n"), chars-kept)
		}
		room -= int(kept)
		text.WriteString(line)
		t.Lines++
	}
	t.Text = text.String()
	notes := ""
	if more || !atEnd(in) {
		t.NextOffset = first + t.Lines
		notes = fmt.Sprintf("\n[lines %d to %d: read_file with offset %d reads on]", first, t.NextOffset-1, t.NextOffset)
	}
	if t.Text == "" {
		notes = "(the file is empty)" + notes
	}
	a.Content = []api.MCPContent{{Type: api.TextContent, Text: strings.TrimSuffix(t.Text, "\n") + notes}}
	return nil
}

func atEnd(in *bufio.Reader) bool {
	_, err := in.Peek(1)
	return err != nil
}

// skipLines skips lines, and returns how many there were.
func skipLines(in *bufio.Reader, n int) (skipped int, err error) {
	for skipped < n {
		_, err := in.ReadSlice('\n')
		switch {
		case err == nil:
			skipped++
		case err == io.EOF:
			return skipped, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return skipped, err
		}
	}
	return skipped, nil
}

// readLine reads a line, and returns its first n code points and how many it has.
func readLine(in *bufio.Reader, n int) (line string, chars int64, err error) {
	var head []byte
	kept := 0
	for {
		piece, err := in.ReadSlice('\n')
		if err != nil && err != io.EOF && !errors.Is(err, bufio.ErrBufferFull) {
			return "", 0, err
		}
		points := utf8.RuneCount(piece) // of a character on a border two
		chars += int64(points)
		if kept < n {
			add := piece[:len(piece)-lenLast(piece, max(0, points-(n-kept)))]
			head = append(head, add...)
			kept += utf8.RuneCount(add)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return strings.ToValidUTF8(string(head), "\ufffd"), chars, nil
		}
	}
}

// readImage puts an image into the answer, small enough.
func (h *handlers) readImage(in io.Reader, a *api.MCPAnswer) error {
	f := a.File
	if f.Size > maxFile || f.Size < 0 {
		return api.Errorf(api.TooLarge, "the image has more than %d bytes: make it smaller with run_code", maxFile)
	}
	raw, err := io.ReadAll(io.LimitReader(in, maxFile))
	if err != nil {
		return err
	}
	width, height := size(raw)
	text := fmt.Sprintf("%s: %s, %d×%d pixels, %d bytes", f.Path, f.MIME, width, height, f.Size)
	p, err := h.shrink(raw, time.Now().Add(maxRead))
	if err != nil {
		return api.Errorf(api.Unprocessable, "%s cannot be shown: %v", text, err)
	}
	if len(p.data) != len(raw) {
		text += ", shown smaller"
	}
	a.Content = []api.MCPContent{{Type: api.TextContent, Text: text}, {Type: api.ImageContent, MIME: p.mime, Data: p.data}}
	linkFile(a)
	return nil
}

// sayBinary tells of a file that is neither text nor an image.
func sayBinary(head []byte, a *api.MCPAnswer) {
	f := a.File
	a.Content = say(fmt.Sprintf("%s is no text: %s, %d bytes, which begin % x. Read it with run_code", f.Path, f.MIME, f.Size, head[:min(len(head), 64)])).Content
	linkFile(a)
}

// linkFile adds a link to the file, unless its path is none that can be told in a line.
func linkFile(a *api.MCPAnswer) {
	f := a.File
	if f.Size >= 0 && !strings.ContainsFunc(f.Path, func(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError }) {
		a.Content = append(a.Content, api.MCPContent{Type: api.LinkContent, Name: path.Base(f.Path), MIME: f.MIME, Size: f.Size, Path: f.Path})
	}
}
