package inside_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

type model struct {
	Name, Path, Type, Format, Mimetype, Created string
	LastModified                                string `json:"last_modified"`
	Content                                     any
	Size                                        *int64
	Writable                                    bool
	Hash                                        *string
}

func content(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestAFileIsSavedReadAndHashed(t *testing.T) {
	in := folder(t)
	at := "/api/contents/" + in + "/a%20b%25.txt"
	m := get[model](t, http.StatusCreated, "PUT", at, object{"type": "file", "format": "text", "content": "grün\n", "name": "ignored"})
	if m.Path != in+"/a b%.txt" || m.Name != "a b%.txt" || m.Content != nil || m.Type != "file" || !m.Writable || *m.Size != 6 {
		t.Errorf("saved %+v", m)
	}
	m = get[model](t, http.StatusOK, "GET", at+"?content=1&hash=1&1700000000000", nil)
	sum := sha256.Sum256([]byte("grün\n"))
	if m.Content != "grün\n" || m.Format != "text" || m.Mimetype != "text/plain" || m.Hash == nil || *m.Hash != hex.EncodeToString(sum[:]) {
		t.Errorf("read %+v", m)
	}
	if m := get[model](t, http.StatusOK, "GET", at+"?type=file&format=base64", nil); m.Content != "Z3LDvG4K" {
		t.Errorf("as base64: %+v", m)
	}
	get[model](t, http.StatusOK, "PUT", at, object{"type": "file", "format": "base64", "content": "/w=="})
	if m := get[model](t, http.StatusOK, "GET", at, nil); m.Content != "/w==" || m.Format != "base64" {
		t.Errorf("what is no text: %+v", m)
	}
	if e := get[object](t, http.StatusBadRequest, "GET", at+"?format=text", nil); e["reason"] != "bad format" {
		t.Errorf("as text: %v", e)
	}
}

func TestALargeFileComesInPieces(t *testing.T) {
	at := folder(t) + "/large.bin"
	put := func(chunk int, text string, status int) {
		t.Helper()
		get[model](t, status, "PUT", "/api/contents/"+at, object{"type": "file", "format": "text", "content": text, "chunk": chunk})
	}
	put(1, "one", http.StatusCreated)
	put(2, "two", http.StatusOK)
	put(-1, "three", http.StatusOK)
	if got := content(t, at); got != "onetwothree" {
		t.Errorf("the file has %q", got)
	}
	put(1, "anew", http.StatusOK)
	if got := content(t, at); got != "anew" {
		t.Errorf("the file has %q", got)
	}
}

func TestWhatIsTooLargeIsRefusedAndOthersAreNot(t *testing.T) {
	at := "/api/contents/" + folder(t) + "/large.txt"
	e := get[object](t, http.StatusRequestEntityTooLarge, "PUT", at, object{"type": "file", "format": "text", "content": strings.Repeat("x", 65<<20)})
	if e["reason"] != "Request Entity Too Large" {
		t.Errorf("%v", e)
	}
	var work sync.WaitGroup
	for i := range 3 {
		work.Go(func() {
			name := fmt.Sprintf("%s%d", at, i)
			body := object{"type": "file", "format": "text", "content": strings.Repeat("x", 5<<20)}
			if status, e, _ := ask[object](t, "PUT", name, body); status != http.StatusCreated {
				t.Errorf("%d %v", status, e)
			}
			if status, m, _ := ask[model](t, "GET", name, nil); status != http.StatusOK || len(m.Content.(string)) != 5<<20 {
				t.Errorf("read: %d", status)
			}
		})
	}
	work.Wait()
}

func TestANotebookHasItsNormalFormInTheFileAndTextsAsStringsForClients(t *testing.T) {
	at := folder(t) + "/n.ipynb"
	cell := object{
		"cell_type": "code", "id": "c1", "metadata": object{"trusted": true}, "execution_count": 1, "source": "a = 1\nb",
		"outputs": []any{object{"output_type": "stream", "name": "stdout", "text": "x\ny\n"}},
	}
	doc := object{"cells": []any{cell}, "metadata": object{"big": 12345678901234567}, "nbformat": 4, "nbformat_minor": 5}
	get[model](t, http.StatusCreated, "PUT", "/api/contents/"+at, object{"type": "notebook", "format": "json", "content": doc})
	file := content(t, at)
	for _, want := range []string{"\n   \"source\": [\n    \"a = 1\\n\",\n    \"b\"\n   ]", "\"x\\n\",\n", "12345678901234567"} {
		if !strings.Contains(file, want) {
			t.Errorf("the file has no %q: %s", want, file)
		}
	}
	if strings.Contains(file, "trusted") {
		t.Errorf("the file says what is trusted: %s", file)
	}
	m := get[model](t, http.StatusOK, "GET", "/api/contents/"+at, nil)
	got := m.Content.(object)["cells"].([]any)[0].(object)
	if m.Type != "notebook" || m.Format != "json" || got["source"] != "a = 1\nb" || got["outputs"].([]any)[0].(object)["text"] != "x\ny\n" {
		t.Errorf("read %+v", m)
	}
	if m := get[model](t, http.StatusOK, "GET", "/api/contents/"+at+"?type=file&format=text", nil); m.Content != file {
		t.Errorf("as a file: %+v", m)
	}
	if err := os.WriteFile(filepath.Join(root, at), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if e := get[object](t, http.StatusBadRequest, "GET", "/api/contents/"+at, nil); !strings.HasPrefix(e["message"].(string), "Unreadable Notebook: "+at) {
		t.Errorf("a broken one: %v", e)
	}
}

func TestADirectoryListsWhatIsInIt(t *testing.T) {
	in := folder(t)
	for _, name := range []string{"b.ipynb", ".hidden", "c.py"} {
		if err := os.WriteFile(filepath.Join(root, in, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	get[model](t, http.StatusCreated, "PUT", "/api/contents/"+in+"/sub", object{"type": "directory"})
	for link, to := range map[string]string{"to-sub": "sub", "nowhere": "not/there"} {
		if err := os.Symlink(to, filepath.Join(root, in, link)); err != nil {
			t.Fatal(err)
		}
	}
	m := get[struct{ Content []model }](t, http.StatusOK, "GET", "/api/contents/"+in, nil)
	got := map[string]string{}
	for _, one := range m.Content {
		got[one.Name] = one.Type
		if one.Path != in+"/"+one.Name || one.Content != nil {
			t.Errorf("%+v", one)
		}
	}
	want := map[string]string{"b.ipynb": "notebook", ".hidden": "file", "c.py": "file", "sub": "directory", "to-sub": "directory"}
	if len(got) != len(want) {
		t.Errorf("listed %v", got)
	}
	for name, kind := range want {
		if got[name] != kind {
			t.Errorf("%s is a %q, want %s", name, got[name], kind)
		}
	}
	if e := get[object](t, http.StatusBadRequest, "GET", "/api/contents/"+in+"?type=file", nil); e["reason"] != "bad type" {
		t.Errorf("%v", e)
	}
}

func TestNewThingsGetAFreeName(t *testing.T) {
	in := "/api/contents/" + folder(t)
	for _, c := range []struct {
		body any
		want string
	}{
		{nil, "untitled.txt"},
		{object{}, "untitled1.txt"},
		{object{"type": "notebook"}, "Untitled.ipynb"},
		{object{"type": "notebook"}, "Untitled1.ipynb"},
		{object{"type": "directory"}, "Untitled Folder"},
		{object{"type": "directory"}, "Untitled Folder 1"},
		{object{"type": "file", "ext": ".tar.gz"}, "untitled.tar.gz"},
		{object{"ext": ".tar.gz"}, "untitled1.tar.gz"},
	} {
		if m := get[model](t, http.StatusCreated, "POST", in, c.body); m.Name != c.want {
			t.Errorf("%v made %q, want %q", c.body, m.Name, c.want)
		}
	}
}

func TestCopiesAreWholeAndNamedAsJupyterNamesThem(t *testing.T) {
	in := folder(t)
	get[model](t, http.StatusCreated, "PUT", "/api/contents/"+in+"/d/e/x.ipynb", object{})
	get[model](t, http.StatusCreated, "PUT", "/api/contents/"+in+"/d/f.txt", object{"type": "file", "format": "text", "content": "f"})
	for _, want := range []string{"x.ipynb", "x-Copy1.ipynb", "x-Copy2.ipynb"} {
		if m := get[model](t, http.StatusCreated, "POST", "/api/contents/"+in, object{"copy_from": "/" + in + "/d/e/x.ipynb"}); m.Name != want {
			t.Errorf("copied to %q, want %q", m.Name, want)
		}
	}
	if m := get[model](t, http.StatusCreated, "POST", "/api/contents/"+in, object{"copy_from": in + "/d"}); m.Name != "d-Copy1" {
		t.Errorf("copied to %q", m.Name)
	}
	if got := content(t, in+"/d-Copy1/f.txt"); got != "f" {
		t.Errorf("the copy has %q", got)
	}
	content(t, in+"/d-Copy1/e/x.ipynb")
	get[object](t, http.StatusBadRequest, "POST", "/api/contents/"+in+"/d", object{"copy_from": in + "/d"})
	get[object](t, http.StatusNotFound, "POST", "/api/contents/"+in, object{"copy_from": in + "/gone"})
}

func TestCheckpointsGoWithTheirFile(t *testing.T) {
	in := folder(t)
	at := "/api/contents/" + in + "/a.txt"
	put := func(text string) {
		get[model](t, http.StatusOK, "PUT", at, object{"type": "file", "format": "text", "content": text})
	}
	get[model](t, http.StatusCreated, "PUT", at, object{"type": "file", "format": "text", "content": "one"})
	if list := get[[]any](t, http.StatusOK, "GET", at+"/checkpoints", nil); len(list) != 0 {
		t.Errorf("checkpoints %v", list)
	}
	get[object](t, http.StatusCreated, "POST", at+"/checkpoints", nil)
	put("two")
	get[object](t, http.StatusNoContent, "POST", at+"/checkpoints/checkpoint", nil)
	if got := content(t, in+"/a.txt"); got != "one" {
		t.Errorf("restored %q", got)
	}
	get[model](t, http.StatusOK, "PATCH", at, object{"path": in + "/b.txt"})
	at = "/api/contents/" + in + "/b.txt"
	if list := get[[]object](t, http.StatusOK, "GET", at+"/checkpoints", nil); len(list) != 1 || list[0]["id"] != "checkpoint" {
		t.Errorf("checkpoints %v", list)
	}
	get[object](t, http.StatusNotFound, "POST", at+"/checkpoints/other", nil)
	get[object](t, http.StatusNoContent, "DELETE", at, nil)
	if left, _ := os.ReadDir(filepath.Join(root, in, ".ipynb_checkpoints")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestRenamingReplacesNothing(t *testing.T) {
	in := folder(t)
	for _, name := range []string{"a", "b"} {
		get[model](t, http.StatusCreated, "PUT", "/api/contents/"+in+"/"+name, object{"type": "file", "format": "text", "content": name})
	}
	if e := get[object](t, http.StatusConflict, "PATCH", "/api/contents/"+in+"/a", object{"path": in + "/b"}); e["message"] != "File already exists: "+in+"/b" {
		t.Errorf("%v", e)
	}
	if got := content(t, in+"/b"); got != "b" {
		t.Errorf("replaced by %q", got)
	}
	if m := get[model](t, http.StatusOK, "PATCH", "/api/contents/"+in+"/a", object{"path": "/" + in + "/c/"}); m.Path != in+"/c" {
		t.Errorf("%+v", m)
	}
}

func TestNoPathLeadsOutOfTheContents(t *testing.T) {
	outside := filepath.Join(filepath.Dir(root), "outside-"+filepath.Base(root))
	if err := os.WriteFile(outside, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(outside) })
	up := "/%2e%2e/" + filepath.Base(outside)
	for _, c := range [][2]string{{"GET", up}, {"GET", "/a" + "/%2e%2e" + up}, {"PUT", up}, {"DELETE", up}, {"PATCH", up}, {"POST", up}, {"GET", up + "/checkpoints"}, {"POST", up + "/checkpoints"}} {
		if status, e, _ := ask[object](t, c[0], "/api/contents"+c[1], object{"path": "x", "type": "file", "format": "text", "content": ""}); status != http.StatusNotFound {
			t.Errorf("%s %s: %d %v", c[0], c[1], status, e)
		}
	}
	in := folder(t)
	get[object](t, http.StatusCreated, "PUT", "/api/contents/"+in+"/a", object{})
	get[object](t, http.StatusNotFound, "PATCH", "/api/contents/"+in+"/a", object{"path": "../x"})
	get[object](t, http.StatusNotFound, "POST", "/api/contents/"+in, object{"copy_from": "../" + filepath.Base(outside)})
	if status, _, _ := ask[object](t, "GET", "/files"+up, nil); status != http.StatusNotFound {
		t.Errorf("files: %d", status)
	}
}

func TestBadRequestsForContentsAreRefusedAndNamed(t *testing.T) {
	in := "/api/contents/" + folder(t)
	for _, c := range []struct {
		method, path string
		body         any
		status       int
		says         string
	}{
		{"GET", "/gone", nil, 404, "does not exist"},
		{"GET", "?content=2", nil, 400, "content"},
		{"GET", "?format=xml", nil, 400, "Format"},
		{"PUT", "/a", `{"type":`, 400, "JSON"},
		{"PUT", "/a", object{"type": 3}, 400, "type"},
		{"PUT", "/a", object{"type": "file", "format": "text", "content": 3}, 400, "content"},
		{"PUT", "/a", object{"type": "file", "format": "base64", "content": "!"}, 400, "content"},
		{"PUT", "/a", object{"type": "file", "format": "xml", "content": ""}, 400, "format"},
		{"PUT", "/a", object{"copy_from": "b"}, 400, "Cannot copy with PUT"},
		{"PUT", "/a.ipynb", object{"type": "notebook", "content": object{"cells": 3}}, 400, "validation"},
		{"PUT", "/a.ipynb", object{"type": "notebook", "content": "x"}, 400, "validation"},
		{"PUT", "", object{"type": "file", "format": "text", "content": ""}, 400, "directory"},
		{"PUT", "/a", object{"type": "file", "format": "text", "content": "", "chunk": 2}, 404, "does not exist"},
		{"POST", "/gone", nil, 404, "No such directory"},
		{"POST", "", object{"ext": "/../x"}, 400, "ext"},
		{"DELETE", "/gone", nil, 404, "does not exist"},
		{"PATCH", "/gone", object{"path": "x"}, 404, ""},
		{"DELETE", "/../", nil, 400, "root"},
		{"POST", "/checkpoints/x/y", nil, 404, ""},
	} {
		status, e, _ := ask[object](t, c.method, in+c.path, c.body)
		message, _ := e["message"].(string)
		if status != c.status || !strings.Contains(message, c.says) || e["reason"] == nil {
			t.Errorf("%s %s %v: %d %v", c.method, c.path, c.body, status, e)
		}
	}
	get[object](t, http.StatusBadRequest, "DELETE", "/api/contents/", nil)
}

func TestAFileIsDownloadedAsNoPage(t *testing.T) {
	in := folder(t)
	if err := os.WriteFile(filepath.Join(root, in, "x.html"), []byte("<script>"), 0o600); err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get(site.URL + "/files/" + in + "/x.html?download=1")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if h := resp.Header; resp.StatusCode != 200 || !strings.HasPrefix(h.Get("Content-Disposition"), "attachment") || !strings.HasPrefix(h.Get("Content-Security-Policy"), "sandbox") {
		t.Errorf("%d %v", resp.StatusCode, h)
	}
}
