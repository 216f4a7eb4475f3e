package inside_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"image"
	_ "image/jpeg" // read here
	_ "image/png"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/server/mcp/inside"
)

// noise displays a PNG that has about 4 MB.
const noise = `
import os, io
from PIL import Image
from IPython.display import display, Image as Picture
b = io.BytesIO()
Image.frombytes('RGB', (1300, 1000), os.urandom(1300 * 1000 * 3)).save(b, 'PNG')
raw = b.getvalue()
display(Picture(raw))
len(raw)
`

func TestImage(t *testing.T) {
	a, text := use(t, api.ToolRunCode, api.MCPRunCode{Code: noise})
	if a.Run.Status != "ok" || len(a.Run.Outputs) != 1 {
		t.Fatalf("%+v %s", a.Run, text)
	}
	o := a.Run.Outputs[0]
	size, _ := strconv.ParseInt(strings.TrimSpace(a.Run.Result), 10, 64)
	if o.MIME != "image/png" || o.Width != 1300 || o.Height != 1000 || o.Size != size || size < 3_500_000 {
		t.Errorf("%+v, want %d bytes", o, size)
	}
	if !strings.Contains(text, "image/png, 1300×1000 pixels") || !strings.Contains(text, o.Path) {
		t.Error(text)
	}
	var kinds []api.ContentType
	for _, c := range a.Content {
		kinds = append(kinds, c.Type)
	}
	if len(kinds) != 3 || kinds[1] != api.ImageContent || kinds[2] != api.LinkContent {
		t.Fatalf("%v", kinds)
	}
	checkSmall(t, a.Content[1].MIME, a.Content[1].Data)
	kept, err := os.ReadFile(o.Path)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get(site.URL + "/output?run_id=" + a.Run.RunID + "&output=" + strconv.Itoa(o.Output))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	original, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Equal(original, kept) || int64(len(kept)) != size || resp.Header.Get("Content-Type") != "image/png" {
		t.Errorf("%v: %d bytes are kept, %d told, %d answered", err, len(kept), size, len(original))
	}
	for images, want := range map[api.Images]int{api.ImagesLink: 2, api.ImagesNone: 1} {
		a, _ := use(t, api.ToolGetRun, api.MCPGetRun{RunID: a.Run.RunID, Images: images})
		if len(a.Content) != want || len(a.Run.Outputs) != 1 || a.Run.Outputs[0].Path != o.Path {
			t.Errorf("%s: %d contents, %+v", images, len(a.Content), a.Run.Outputs)
		}
	}
}

func checkSmall(t *testing.T, typ string, data []byte) {
	t.Helper()
	c, format, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil || typ != "image/"+format || c.Width > 1024 || c.Height > 1024 || base64.StdEncoding.EncodedLen(len(data)) > api.MaxMCPImage {
		t.Errorf("%v: %s as %s, %d×%d, %d bytes", err, format, typ, c.Width, c.Height, len(data))
	}
}

func TestPlots(t *testing.T) {
	a, text := use(t, api.ToolRunCode, api.MCPRunCode{Code: "import matplotlib.pyplot as plt\nfor i in range(4):\n    plt.plot([1, i]); plt.title(str(i)); plt.show()\nprint('done')"})
	shown := 0
	for _, c := range a.Content {
		if c.Type == api.ImageContent {
			shown++
			checkSmall(t, c.MIME, c.Data)
		}
	}
	if shown != api.MaxMCPImages || len(a.Run.Outputs) != 4 || strings.Count(text, "image/png") != 4 || strings.Contains(text, "<Figure") {
		t.Errorf("%d images, %+v %s", shown, a.Run.Outputs, text)
	}
}

func TestTable(t *testing.T) {
	_, text := code(t, "import pandas as pd\npd.DataFrame({'name': ['a|b', 'ü'], 'value': [1.5, None]}, index=pd.Index([3, 4], name='key'))")
	want := "| key | name | value |\n| --- | --- | --- |\n| 3 | a\\|b | 1.5 |\n| 4 | ü | NaN |"
	if text != want {
		t.Errorf("%s\nwant\n%s", text, want)
	}
	_, text = code(t, "pd.DataFrame({('x', 'a'): [1], ('x', 'b'): [2], ('y', 'a'): [3]})")
	if want := "|  | x / a | b | y / a |\n| --- | --- | --- | --- |\n| 0 | 1 | 2 | 3 |"; text != want {
		t.Errorf("%s\nwant\n%s", text, want)
	}
	run, _ := code(t, "pd.DataFrame({'n': range(1000)})")
	if !strings.Contains(run.Result, "1000 rows × 1 columns") {
		t.Error(run.Result)
	}
}

func TestDisplays(t *testing.T) {
	code(t, "from IPython.display import *")
	for source, want := range map[string]string{
		"display(Markdown('# Title'))": "# Title\n",
		"display(Latex('$x$'))":        "$x$\n",
		"display(HTML('<p>one <b>two</b></p><ul><li>three</ul><script>no</script>'))": "one two\n- three\n",
		"display(JSON({'a': [1, 2]}))": "{\"a\":[1,2]}\n",
		"class C:\n    def _repr_mimebundle_(self, **k): return {'application/x-k2': 'raw'}\nC()": "<application/x-k2, text/plain>\n",
		"h = display('first', display_id=True); h.update('second'); display('third')":             "'third'\n'second'\n",
		"class D:\n    def __repr__(self): return '\\x1b[1mbold\\x1b[0m'\nD()":                    "bold\n",
	} {
		if run, _ := code(t, source); strings.ReplaceAll(run.Result, `": [1, 2]`, `":[1,2]`) != want && !strings.HasPrefix(want, "<") {
			t.Errorf("%s: %q, want %q", source, run.Result, want)
		}
	}
}

// However many displays there are, an answer is small.
func TestManyDisplays(t *testing.T) {
	a, _ := use(t, api.ToolRunCode, api.MCPRunCode{Code: "for i in range(500): display({'text/plain': str(i), 'image/png': 'iVBORw0KGgo='}, raw=True)"})
	raw, _ := json.Marshal(a)
	if len(raw) > 100<<10 || len(a.Run.Outputs) != 50 {
		t.Errorf("%d bytes, %d outputs", len(raw), len(a.Run.Outputs))
	}
}

// Pictures that are made to do harm are refused, and quickly.
func TestHostileImages(t *testing.T) {
	huge := []byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\xea\x60\x00\x00\xea\x60\x08\x06\x00\x00\x00")
	huge = append(huge, 0, 0, 0, 0)
	jpeg := func(frame string) []byte { // of 2800 x 2800 pixels, cut
		return []byte("\xff\xd8\xff\xfe\x00\x04ab" + frame + "\x00\x11\x08\x0a\xf0\x0a\xf0\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01\xff\xda\x00\x02")
	}
	if _, _, err := inside.Shrink(jpeg("\xff\xc2")); err == nil || !strings.Contains(err.Error(), "too many pixels") {
		t.Errorf("a progressive JPEG, which takes much memory, is read: %v", err)
	}
	if _, _, err := inside.Shrink(jpeg("\xff\xc0")); err == nil || strings.Contains(err.Error(), "too many pixels") {
		t.Errorf("a baseline JPEG, which does not, is not: %v", err)
	}
	for name, raw := range map[string][]byte{
		"empty": {}, "nonsense": []byte("no image"), "huge": huge,
		"gif": []byte("GIF89a\xff\xff\xff\xff\x00\x00\x00"), "cut": []byte("\xff\xd8\xff\xe0\x00\x10JFIF"),
	} {
		if typ, data, err := inside.Shrink(raw); err == nil {
			t.Errorf("%s: %s of %d bytes", name, typ, len(data))
		}
	}
	run, text := code(t, "display({'image/png': '!!!', 'text/plain': 'x'}, raw=True); display({'image/svg+xml': '<svg/>'}, raw=True); display({'image/png': {'a': 1}}, raw=True)")
	if run.Status != "ok" || len(run.Outputs) != 3 {
		t.Errorf("%+v %s", run, text)
	}
}

func FuzzRender(f *testing.F) {
	f.Add([]byte(`{"text/html":"<table><tr><th>a<th colspan=2>b<tr><td rowspan=9>c<td>d</table>x","text/plain":"<x>"}`))
	f.Add([]byte(`{"text/html":"<p>a</p>"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if !json.Valid(data) {
			return
		}
		if text, _ := inside.Render(data); len(text) > 100*len(data)+1000 {
			t.Errorf("%d bytes of %d", len(text), len(data))
		}
	})
}

func FuzzShrink(f *testing.F) {
	f.Add([]byte("GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00!\xf9\x04\x00\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if typ, data, err := inside.Shrink(raw); err == nil {
			checkSmall(t, typ, data)
		}
	})
}

// Whatever the pieces are, what is shown has no control characters, is no longer than it may be, and does not depend on how it is cut.
func FuzzScreen(f *testing.F) {
	f.Add("a\rb\x1b[31mc\x1b]0;t\x07d\n", 3, 20)
	f.Add("12\b\b\x1b[5C\x1b[2K\x9b1m", 1, 4)
	f.Fuzz(func(t *testing.T, text string, at, n int) {
		text = strings.ToValidUTF8(text, "")
		n = min(max(n, 1), 1000)
		at = min(max(at, 0), len(text))
		for at > 0 && at < len(text) && !utf8.RuneStart(text[at]) {
			at--
		}
		whole, total := inside.Clean(n, text)
		parts, again := inside.Clean(n, text[:at], text[at:])
		if whole != parts || total != again {
			t.Errorf("%q is %q (%d), in two pieces %q (%d)", text, whole, total, parts, again)
		}
		if i := strings.IndexFunc(whole, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 }); i >= 0 {
			t.Errorf("%q", whole)
		}
		if points := utf8.RuneCountInString(whole); points > n+60 || total <= int64(n) && int64(points) != total {
			t.Errorf("%d of %d characters, %d at most", points, total, n)
		}
	})
}
