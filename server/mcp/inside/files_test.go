package inside_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
)

func write(t *testing.T, path, content string, mode api.WriteMode) *api.MCPWritten {
	t.Helper()
	a, _ := use(t, api.ToolWriteFile, api.MCPWriteFile{Path: path, Content: &content, Mode: mode})
	return a.Written
}

func TestWriteAndRead(t *testing.T) {
	if w := write(t, "notes/a.txt", "one\ntwo\n", ""); !w.Created || w.Size != 8 || !strings.HasSuffix(w.Path, "/notes/a.txt") {
		t.Errorf("%+v", w)
	}
	if w := write(t, "notes/a.txt", "three", api.WriteAppend); w.Created || w.Size != 13 {
		t.Errorf("%+v", w)
	}
	a, text := use(t, api.ToolReadFile, api.MCPReadFile{Path: "notes/a.txt"})
	if text != "one\ntwo\nthree" || a.File.Lines != 3 || a.File.NextOffset != 0 || a.File.Truncated || a.File.Size != 13 {
		t.Errorf("%q %+v", text, a.File)
	}
	if a, text = use(t, api.ToolReadFile, api.MCPReadFile{Path: "notes/a.txt", Offset: 2, Limit: 1}); !strings.HasPrefix(text, "two\n[lines 2 to 2: read_file with offset 3 reads on") || a.File.NextOffset != 3 {
		t.Errorf("%q %+v", text, a.File)
	}
	refused(t, api.ToolWriteFile, api.MCPWriteFile{Path: "notes/a.txt", Mode: api.WriteNew}, api.Conflict)
	if w := write(t, "notes/b.txt", "", api.WriteAppend); !w.Created || w.Size != 0 {
		t.Errorf("%+v", w)
	}
	if _, text := use(t, api.ToolReadFile, api.MCPReadFile{Path: "notes/b.txt"}); text != "(the file is empty)" {
		t.Error(text)
	}
	a, text = use(t, api.ToolListFiles, api.MCPListFiles{Path: "notes"})
	if len(a.Files.Entries) != 2 || !strings.Contains(text, "a.txt  13 bytes  ") {
		t.Errorf("%+v %s", a.Files, text)
	}
	if _, text := use(t, api.ToolListFiles, api.MCPListFiles{Depth: 2}); !strings.Contains(text, "notes/\nnotes/a.txt") {
		t.Error(text)
	}
}

func TestReadLongFiles(t *testing.T) {
	var b strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&b, "line %d\n", i+1)
	}
	write(t, "long.txt", b.String(), "")
	var seen strings.Builder
	for offset := 1; offset != 0; {
		a, _ := use(t, api.ToolReadFile, api.MCPReadFile{Path: "long.txt", Offset: offset, MaxOutputChars: 50_000})
		seen.WriteString(a.File.Text)
		offset = a.File.NextOffset
	}
	if seen.String() != b.String() {
		t.Errorf("read %d bytes, want %d", seen.Len(), b.Len())
	}
	write(t, "wide.txt", strings.Repeat("ü", 100_000)+"\nend\n", "")
	a, text := use(t, api.ToolReadFile, api.MCPReadFile{Path: "wide.txt"})
	if !strings.Contains(text, "98001 characters of this line were left out") || !strings.HasSuffix(text, "\nend") || !a.File.Truncated {
		t.Errorf("%.100s … %s", text, text[len(text)-200:])
	}
}

func TestReadOtherFiles(t *testing.T) {
	code(t, "open('b.bin', 'wb').write(bytes(range(256)) * 10)\nfrom PIL import Image\nImage.new('RGB', (3000, 20), 'red').save('p.png'); Image.new('RGB', (9, 9)).save('q.webp')")
	a, text := use(t, api.ToolReadFile, api.MCPReadFile{Path: "b.bin"})
	if !strings.Contains(text, "is no text: application/octet-stream, 2560 bytes, which begin 00 01 02") || len(a.Content) != 2 || a.Content[1].Path == "" {
		t.Errorf("%s %+v", text, a.Content)
	}
	for _, name := range []string{"p.png", "q.webp"} {
		a, _ := use(t, api.ToolReadFile, api.MCPReadFile{Path: name})
		if len(a.Content) != 3 || a.Content[1].Type != api.ImageContent {
			t.Fatalf("%s: %+v", name, a.Content)
		}
		checkSmall(t, a.Content[1].MIME, a.Content[1].Data)
	}
	if _, text := use(t, api.ToolReadFile, api.MCPReadFile{Path: "/proc/self/status"}); !strings.Contains(text, "Name:") {
		t.Error(text)
	}
}
