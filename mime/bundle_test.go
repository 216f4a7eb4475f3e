package mime_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/mime"
)

const png = "iVBORw0KGgo=" // the eight bytes that every PNG starts with

// What real kernels send, a row for each way to display something.
var shown = []struct {
	name  string
	raw   string
	types []string // by richness
	kind  mime.Encoding
	text  string // content of the richest
}{
	{"DataFrame", `{"text/plain":"   a\n0  1","text/html":"<table border=\"1\">\n</table>"}`,
		[]string{"text/html", "text/plain"}, mime.Text, "<table border=\"1\">\n</table>"},
	{"DataFrame with table_schema", `{"application/vnd.dataresource+json":{"data":[{"a":1}]},"text/html":"<table>","text/plain":"a"}`,
		[]string{"application/vnd.dataresource+json", "text/html", "text/plain"}, mime.JSON, `{"data":[{"a":1}]}`},
	{"Series, Index, ndarray", `{"text/plain":"array([1, 2])"}`, []string{"text/plain"}, mime.Text, "array([1, 2])"},
	{"Styler", `{"text/plain":"<Styler>","text/html":"<style></style>"}`,
		[]string{"text/html", "text/plain"}, mime.Text, "<style></style>"},
	{"matplotlib", `{"text/plain":"<Figure size 640x480 with 1 Axes>","image/png":"` + png + `"}`,
		[]string{"image/png", "text/plain"}, mime.Base64, "\x89PNG\r\n\x1a\n"},
	{"figure as svg", `{"text/plain":"<Figure>","image/svg+xml":"<svg>é</svg>\n"}`,
		[]string{"image/svg+xml", "text/plain"}, mime.Text, "<svg>é</svg>\n"},
	{"figure as jpeg", `{"text/plain":"<Figure>","image/jpeg":"/9j/"}`,
		[]string{"image/jpeg", "text/plain"}, mime.Base64, "\xff\xd8\xff"},
	{"figure as pdf", `{"text/plain":"<Figure>","application/pdf":"JVBERg=="}`,
		[]string{"application/pdf", "text/plain"}, mime.Base64, "%PDF"},
	{"PIL.Image", `{"image/png":"` + png + `","image/jpeg":"/9j/","text/plain":"<PIL.Image.Image>"}`,
		[]string{"image/png", "image/jpeg", "text/plain"}, mime.Base64, "\x89PNG\r\n\x1a\n"},
	{"Image gif", `{"image/gif":"R0lG","text/plain":"<Image>"}`,
		[]string{"image/gif", "text/plain"}, mime.Base64, "GIF"},
	{"Image webp", `{"image/webp":"UklGRg==","text/plain":"<Image>"}`,
		[]string{"image/webp", "text/plain"}, mime.Base64, "RIFF"},
	{"Video, Audio, IFrame", `{"text/html":"<video src=\"data:video/mp4;base64,AAAA\">","text/plain":"<Video>"}`,
		[]string{"text/html", "text/plain"}, mime.Text, `<video src="data:video/mp4;base64,AAAA">`},
	{"Markdown", `{"text/markdown":"# a","text/plain":"<Markdown>"}`,
		[]string{"text/markdown", "text/plain"}, mime.Text, "# a"},
	{"Latex, Math", `{"text/latex":"$\\displaystyle x\\in y$","text/plain":"<Math>"}`,
		[]string{"text/latex", "text/plain"}, mime.Text, `$\displaystyle x\in y$`},
	{"JSON object", `{"application/json":{"a":[1,"}"]},"text/plain":"<JSON>"}`,
		[]string{"application/json", "text/plain"}, mime.JSON, `{"a":[1,"}"]}`},
	{"JSON list", `{"application/json":[1, [2]],"text/plain":"<JSON>"}`,
		[]string{"application/json", "text/plain"}, mime.JSON, `[1, [2]]`},
	{"JSON number", `{"application/json":-1.5e3}`, []string{"application/json"}, mime.JSON, `-1.5e3`},
	{"JSON string", `{"application/json":"s"}`, []string{"application/json"}, mime.JSON, `"s"`},
	{"JSON null", `{"application/json":null}`, []string{"application/json"}, mime.JSON, `null`},
	{"GeoJSON", `{"application/geo+json":{"type":"Point"},"text/plain":"<GeoJSON>"}`,
		[]string{"application/geo+json", "text/plain"}, mime.JSON, `{"type":"Point"}`},
	{"Javascript", `{"application/javascript":"alert(1)","text/plain":"<Javascript>"}`,
		[]string{"application/javascript", "text/plain"}, mime.Text, "alert(1)"},
	{"Code", `{"text/html":"<pre>","text/latex":"\\begin{Verbatim}","text/plain":"x"}`,
		[]string{"text/html", "text/latex", "text/plain"}, mime.Text, "<pre>"},
	{"sympy", `{"text/plain":"x","image/png":"` + png + `","text/latex":"$x$"}`,
		[]string{"text/latex", "image/png", "text/plain"}, mime.Text, "$x$"},
	{"altair", `{"text/plain":"x","application/vnd.vegalite.v6+json":{"mark":"bar"}}`,
		[]string{"application/vnd.vegalite.v6+json", "text/plain"}, mime.JSON, `{"mark":"bar"}`},
	{"plotly, no text/plain", `{"application/vnd.plotly.v1+json":{"data":[]}}`,
		[]string{"application/vnd.plotly.v1+json"}, mime.JSON, `{"data":[]}`},
	{"ipywidgets", `{"text/plain":"IntSlider()","application/vnd.jupyter.widget-view+json":{"version_major":2,"version_minor":0,"model_id":"1"}}`,
		[]string{"application/vnd.jupyter.widget-view+json", "text/plain"}, mime.JSON,
		`{"version_major":2,"version_minor":0,"model_id":"1"}`},
	{"audio", `{"audio/wav":"UklGRg=="}`, []string{"audio/wav"}, mime.Base64, "RIFF"},
	{"font", `{"font/woff2":"d09GMg=="}`, []string{"font/woff2"}, mime.Base64, "wOF2"},
	{"octets", `{"application/octet-stream":"AAE="}`, []string{"application/octet-stream"}, mime.Base64, "\x00\x01"},
	{"XML", `{"application/atom+xml":"<a/>"}`, []string{"application/atom+xml"}, mime.Text, "<a/>"},
	{"bytes of an unknown type", `{"application/x-mine":"AAE="}`, []string{"application/x-mine"}, mime.Unknown, "AAE="},
	{"no MIME type at all", `{"mine":"text"}`, []string{"mine"}, mime.Unknown, "text"},
	{"object where a string belongs", `{"image/png":{"a":1}}`, []string{"image/png"}, mime.JSON, `{"a":1}`},
	{"base64 with line ends", `{"image/png":"iVBO\nRw0K\r\n Ggo=\n"}`, []string{"image/png"}, mime.Base64, "\x89PNG\r\n\x1a\n"},
	{"empty string", `{"image/png":""}`, []string{"image/png"}, mime.Base64, ""},
	{"escapes in the key", `{"image\/pn\u0067":"iVBORw0KGgo="}`, []string{"image/png"}, mime.Base64, "\x89PNG\r\n\x1a\n"},
	{"duplicate keys", `{"text/html":"a","text/plain":"p","text/html":"b"}`, []string{"text/html", "text/plain"}, mime.Text, "b"},
	{"case and parameters", `{"text/plain":"p","Text/HTML; charset=utf-8":"h"}`,
		[]string{"Text/HTML; charset=utf-8", "text/plain"}, mime.Text, "h"},
	{"surrogates", `{"text/html":"\ud83d\ude00 \ud83d \ude00x\u00e9"}`, []string{"text/html"}, mime.Text, "😀 \ufffd \ufffdxé"},
	{"all escapes", `{"text/html":"\"\\\/\b\f\n\r\t\u0000"}`, []string{"text/html"}, mime.Text, "\"\\/\b\f\n\r\t\x00"},
	{"white space", " {\n\t\"text/html\" :\r\n \"h\" , \"text/plain\": \"p\" } ",
		[]string{"text/html", "text/plain"}, mime.Text, "h"},
	{"kernel's order among equals", `{"text/b":"b","text/a":"a","text/plain":"p","text/c":"c"}`,
		[]string{"text/b", "text/a", "text/c", "text/plain"}, mime.Text, "b"},
}

func TestBundle(t *testing.T) {
	for _, tt := range shown {
		t.Run(tt.name, func(t *testing.T) {
			b, err := mime.Parse([]byte(tt.raw))
			if err != nil {
				t.Fatal(err)
			}
			if got := b.Types(); !slices.Equal(got, tt.types) {
				t.Errorf("Types() = %q, want %q", got, tt.types)
			}
			v, ok := b.Get(b.Richest())
			if !ok || v.Type != tt.types[0] {
				t.Fatalf("Get(%q) = %+v, %v", b.Richest(), v, ok)
			}
			if v.Encoding() != tt.kind {
				t.Errorf("Encoding() = %s, want %s", v.Encoding(), tt.kind)
			}
			content, err := v.Bytes()
			if err != nil || string(content) != tt.text {
				t.Errorf("Bytes() = %q, %v, want %q", content, err, tt.text)
			}
			if plain := tt.kind != mime.Base64 && tt.text != `"s"`; plain && v.Text() != tt.text {
				t.Errorf("Text() = %q, want %q", v.Text(), tt.text)
			}
		})
	}
}

func TestGet(t *testing.T) {
	b := mime.New([]byte(`{"IMAGE/PNG":"AAAA","image/png; q=1":"AAEC","text/html":"h","text/plain":"p"}`))
	for typ, want := range map[string]string{
		"IMAGE/PNG":                "AAAA",
		"image/png":                "AAEC", // the last of the two that are alike
		"image/png; q=1":           "AAEC",
		"Text/Html":                "h",
		"text/plain;charset=utf-8": "p",
	} {
		if v, ok := b.Get(typ); !ok || v.Text() != want {
			t.Errorf("Get(%q) = %q, %v, want %q", typ, v.Text(), ok, want)
		}
	}
	for _, typ := range []string{"", "text/css", "image/*", "mage/png"} {
		if v, ok := b.Get(typ); ok {
			t.Errorf("Get(%q) = %q", typ, v.Text())
		}
	}
}

func TestBadBase64(t *testing.T) {
	for _, value := range []string{`"AAE"`, `"A*=="`, `"AAA=A"`} {
		v, _ := mime.New([]byte(`{"image/png":` + value + `}`)).Get("image/png")
		_, err := v.Bytes()
		if err == nil || !strings.Contains(err.Error(), "cannot decode image/png") {
			t.Errorf("Bytes() of %s: error %v", value, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, raw := range []string{"", " ", "null", "[]", `"a"`, "{", `{"a"}`, `{"a":}`, `{"a":1,}`, `{"a":"b}`, `{} x`} {
		if b, err := mime.Parse([]byte(raw)); err == nil || !b.IsZero() {
			t.Errorf("Parse(%q) = %s, %v", raw, b.Raw(), err)
		}
	}
}

func TestJSON(t *testing.T) {
	var event struct {
		Data, Metadata mime.Bundle
		Left           mime.Bundle `json:",omitzero"`
	}
	line := []byte(`{"Data":{"a/b":[1]},"Metadata":{}}`)
	if err := json.Unmarshal(line, &event); err != nil {
		t.Fatal(err)
	}
	copy(line, bytes.Repeat([]byte("x"), len(line))) // the bundle keeps its own bytes
	if event.Data.IsZero() || event.Metadata.IsZero() || !event.Left.IsZero() {
		t.Errorf("IsZero: %v %v %v", event.Data.IsZero(), event.Metadata.IsZero(), event.Left.IsZero())
	}
	if got, err := json.Marshal(event); err != nil || string(got) != `{"Data":{"a/b":[1]},"Metadata":{}}` {
		t.Errorf("Marshal: %s, %v", got, err)
	}
	if got, err := json.Marshal(mime.Bundle{}); err != nil || string(got) != "{}" {
		t.Errorf("Marshal of the zero Bundle: %s, %v", got, err)
	}
	if err := json.Unmarshal([]byte(`{"Data":[]}`), &event); err == nil {
		t.Error("Unmarshal took a list")
	}
	var zero mime.Bundle
	if zero.Richest() != "" || len(zero.Types()) != 0 || zero.Raw() != nil {
		t.Errorf("zero Bundle: %q %q %q", zero.Richest(), zero.Types(), zero.Raw())
	}
	raw := []byte(`{"a/b":"c"}`)
	if got := mime.New(raw).Raw(); &got[0] != &raw[0] {
		t.Error("New copied its bytes")
	}
}

// FuzzBundle holds the methods to two promises: bytes that are no JSON never make
// them panic, and what they read of JSON is what encoding/json reads.
func FuzzBundle(f *testing.F) {
	for _, tt := range shown {
		f.Add([]byte(tt.raw))
		f.Add([]byte(tt.raw[:len(tt.raw)/2]))
	}
	f.Add([]byte(`{"a":"\`))
	f.Add([]byte(`{"a":"\u12`))
	f.Add([]byte(`{"a":[}]}`))
	f.Add(bytes.Repeat([]byte(`{"a":[`), 1000))
	f.Fuzz(func(t *testing.T, raw []byte) {
		b := mime.New(raw)
		types := b.Types()
		for _, typ := range types {
			v, ok := b.Get(typ)
			if !ok {
				t.Errorf("Get(%q) finds nothing", typ)
			}
			v.Encoding()
			v.Text()
			v.Bytes()
		}
		var want map[string]json.RawMessage
		if _, err := mime.Parse(raw); err != nil {
			return
		}
		if err := json.Unmarshal(raw, &want); err != nil {
			t.Fatalf("Parse took what encoding/json refuses: %v", err)
		}
		checkAgainst(t, b, types, want)
	})
}

func checkAgainst(t *testing.T, b mime.Bundle, types []string, want map[string]json.RawMessage) {
	t.Helper()
	read := map[string]bool{}
	for _, typ := range types {
		v, _ := b.Get(typ)
		typ = strings.ToValidUTF8(typ, "\ufffd")
		if _, ok := want[typ]; !ok && !strings.Contains(typ, "\ufffd") {
			t.Errorf("type %q is none of the object's keys", typ)
		}
		read[typ] = true
		var text string
		if json.Unmarshal(v.JSON(), &text) == nil && strings.HasPrefix(string(v.JSON()), `"`) &&
			!strings.Contains(text, "\ufffd") && text != v.Text() {
			t.Errorf("Text() = %q, want %q", v.Text(), text)
		}
	}
	for typ := range want {
		if !read[typ] && !strings.Contains(typ, "\ufffd") {
			t.Errorf("key %q is none of %q", typ, types)
		}
	}
}

// big is a bundle with a picture of 4 MB of base64 before its text.
func big() mime.Bundle {
	picture := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0, 1, 2}, 1<<20))
	return mime.New(fmt.Appendf(nil, `{"image/png":"%s","text/plain":"<Figure>"}`, picture))
}

func BenchmarkTypes(b *testing.B) {
	bundle := big()
	b.SetBytes(int64(len(bundle.Raw())))
	for b.Loop() {
		bundle.Types()
	}
}

func BenchmarkBytes(b *testing.B) {
	bundle := big()
	b.SetBytes(int64(len(bundle.Raw())))
	for b.Loop() {
		v, _ := bundle.Get("image/png")
		if _, err := v.Bytes(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkText(b *testing.B) {
	raw, err := json.Marshal(map[string]string{"text/html": strings.Repeat("<td class=\"x\">1</td>\n", 1<<17)})
	if err != nil {
		b.Fatal(err)
	}
	bundle := mime.New(raw)
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		v, _ := bundle.Get("text/html")
		_ = v.Text()
	}
}
