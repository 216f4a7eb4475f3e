package inside

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/files"
)

// model tells of a file or directory.
type model struct {
	Name          string          `json:"name"`
	Path          string          `json:"path"`
	Type          string          `json:"type"`
	Created       api.JupyterTime `json:"created"`
	LastModified  api.JupyterTime `json:"last_modified"`
	Content       any             `json:"content"`
	Format        *string         `json:"format"`
	Mimetype      *string         `json:"mimetype"`
	Size          *int64          `json:"size"`
	Writable      bool            `json:"writable"`
	Hash          *string         `json:"hash"`
	HashAlgorithm *string         `json:"hash_algorithm"`
}

// wish is what a client wants of a model.
type wish struct {
	kind, format  string // "" is what there is
	content, hash bool
}

// look returns the model of a path.
func (h *handlers) look(ctx context.Context, at string, q wish) (model, error) {
	entry, err := h.box.Files().StatTarget(at)
	if err != nil {
		return model{}, missing(at, err)
	}
	m := newModel(at, entry)
	switch {
	case entry.Type == files.Dir && q.kind != "" && q.kind != directory:
		return m, badType("%.300s is a directory, not a %s", named(at), q.kind)
	case entry.Type == files.Dir && q.content:
		return m, h.list(ctx, at, &m)
	case entry.Type == files.Dir:
		return m, nil
	case entry.Type != files.Regular:
		return m, refuse(http.StatusBadRequest, "%.300s is no regular file", named(at))
	case q.kind == directory:
		return m, badType("%.300s is not a directory", named(at))
	}
	if q.kind != "" {
		m.Type = q.kind
	}
	if q.content || q.hash {
		err = h.read(ctx, at, &m, q)
	}
	return m, err
}

// newModel returns the model of what has the entry, without its content.
func newModel(at string, entry files.Entry) model {
	mode, _ := strconv.ParseUint(entry.Mode, 8, 32)
	m := model{
		Name: path.Base(named(at)), Path: named(at), Created: moment(entry.ModifiedAt), LastModified: moment(entry.ModifiedAt),
		Writable: mode&0o222 != 0, Type: file, Size: &entry.Size,
	}
	switch {
	case entry.Type == files.Dir:
		m.Type, m.Size = directory, nil
	case path.Ext(at) == ".ipynb":
		m.Type = notebookIs
	default:
		m.Mimetype = typeOf(at)
	}
	if m.Path == "" {
		m.Name = ""
	}
	return m
}

// typeOf returns the media type that a name stands for; nil where it stands for none.
func typeOf(name string) *string {
	typ, _, err := mime.ParseMediaType(mime.TypeByExtension(path.Ext(name)))
	if err != nil {
		return nil
	}
	return &typ
}

// maxEntries is how many files of a directory are listed. One with more is refused: part of it would look whole.
const maxEntries = 100_000

// list puts into the model of a directory those of what is in it. What cannot be named in text, and what is
// neither file nor directory, is left out; hidden files are for the client to hide.
func (h *handlers) list(ctx context.Context, at string, m *model) error {
	content := []model{}
	o := files.ListOptions{Limit: 10_000}
	for {
		page, err := h.box.Files().List(ctx, at, o)
		if err != nil {
			return err
		}
		for _, entry := range page.Entries {
			if child, ok := h.child(at, entry); ok {
				content = append(content, child)
			}
		}
		if o.Cursor = page.Next; o.Cursor == "" {
			break
		}
		if len(content) > maxEntries {
			return api.Errorf(api.TooLarge, "the directory has more than %d files", maxEntries)
		}
	}
	format := asJSON
	m.Content, m.Format = content, &format
	return nil
}

func (h *handlers) child(in string, entry files.Entry) (model, bool) {
	if entry.PathBase64 != nil && !utf8.Valid(entry.PathBase64) {
		return model{}, false
	}
	at := path.Join(in, entry.Name)
	if entry.Type == files.Symlink {
		var err error
		if entry, err = h.box.Files().StatTarget(at); err != nil {
			return model{}, false // it leads nowhere
		}
	}
	if entry.Type != files.Dir && entry.Type != files.Regular {
		return model{}, false
	}
	return newModel(at, entry), true
}

// read puts the content of a file, its hash, or both, into its model.
func (h *handlers) read(ctx context.Context, at string, m *model, q wish) error {
	f, err := h.box.Files().Open(at)
	if err != nil {
		return err
	}
	defer f.Close()
	raw, sum, err := take(ctx, f, q.content)
	if err != nil {
		return err
	}
	if q.hash {
		algorithm := "sha256"
		m.Hash, m.HashAlgorithm = &sum, &algorithm
	}
	if !q.content {
		return nil
	}
	format := q.format
	if m.Type == notebookIs {
		format = asJSON
		m.Content, err = notebookContent(at, raw)
	} else {
		m.Content, err = content(raw, &format)
		m.setType(format)
	}
	m.Format = &format
	return err
}

// take reads a file, to keep it or for its hash alone.
func take(ctx context.Context, f *files.File, keep bool) (raw []byte, sum string, err error) {
	stream := io.Reader(f.Sized())
	if f.Size < 0 {
		stream = f.Stream()
	}
	if f.Size > maxBody && keep {
		return nil, "", tooLarge()
	}
	digest := sha256.New()
	stream = io.TeeReader(&patient{ctx, stream}, digest)
	if keep {
		raw, err = io.ReadAll(io.LimitReader(stream, maxBody+1))
	} else {
		_, err = io.Copy(io.Discard, stream)
	}
	if len(raw) > maxBody {
		err = tooLarge()
	}
	return raw, hex.EncodeToString(digest.Sum(nil)), err
}

func tooLarge() error {
	return api.Errorf(api.TooLarge, "the file is larger than %d bytes: it can be downloaded from files/ in place of api/contents/", maxBody)
}

// patient reads until the client has left.
type patient struct {
	ctx context.Context
	r   io.Reader
}

func (p *patient) Read(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	return p.r.Read(b)
}

// content returns the bytes of a file in a format, which it chooses where that is "".
func content(raw []byte, format *string) (string, error) {
	text := utf8.Valid(raw)
	switch {
	case *format == "" && text:
		*format = asText
	case *format == "":
		*format = asBase64
	case *format == asText && !text:
		return "", &refusal{http.StatusBadRequest, "the file is not UTF-8 encoded", "bad format"}
	}
	if *format == asText {
		return string(raw), nil
	}
	return base64.StdEncoding.EncodeToString(raw), nil
}

// setType gives a file of a name that says nothing the type that its format tells.
func (m *model) setType(format string) {
	typ := "application/octet-stream"
	if format == asText {
		typ = "text/plain"
	}
	if m.Mimetype == nil {
		m.Mimetype = &typ
	}
}

// insert puts a text into a name, before its extension: "-Copy1" into "a.ipynb". Other extensions than that of
// notebooks may have several parts.
func insert(name, text string) string {
	i := strings.IndexByte(name, '.')
	if strings.HasSuffix(name, ".ipynb") {
		i = len(name) - len(".ipynb")
	}
	if i < 0 {
		return name + text
	}
	return name[:i] + text + name[i:]
}
